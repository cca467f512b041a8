"""The memories of hadamem inside other people's libraries. Each module needs the library that it is named after."""
