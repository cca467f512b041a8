"""Studies: each asks one question of the memories, and ends in a table, a picture and a conclusion made of its numbers."""
