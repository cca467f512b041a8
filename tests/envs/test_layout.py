import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array
from hypothesis import given, settings
from hypothesis import strategies as st

from hadamem.envs import Layout
from hadamem.envs.actions import Actions
from hadamem.envs.layout import Encoder
from hadamem.envs.parts import without_unsized

LEAVES = [
    spaces.Discrete(5),
    spaces.Discrete(3, start=-1),
    spaces.MultiDiscrete([2, 4, 3]),
    spaces.MultiDiscrete([[2, 3], [4, 2]]),
    spaces.MultiBinary(4),
    spaces.MultiBinary([2, 3]),
    spaces.Box(-1, 1, (3,)),
    spaces.Box(-np.inf, np.inf, (2, 2), np.float64),
    spaces.Box(0, 9, (), np.int64),
    spaces.Box(-1, 1, (2, 3, 2)),
]
LEAF = st.sampled_from(LEAVES)
NESTED = st.recursive(
    LEAF,
    lambda child: (
        st.lists(child, min_size=1, max_size=3).map(spaces.Tuple)
        | st.dictionaries(st.sampled_from("abc"), child, min_size=1).map(spaces.Dict)
    ),
    max_leaves=6,
)


def batch_of(space, samples):
    return concatenate(space, samples, create_empty_array(space, len(samples)))


def encode(space, samples, margin=0):
    """Encode into a buffer of NaN, with `margin` columns before and after that have to stay NaN."""
    encoder = Encoder(space, offset=margin)
    buffer = np.full((len(samples), encoder.end + margin), np.nan, np.float32)
    encoder.write(batch_of(space, samples), buffer)
    assert np.isnan(buffer[:, :margin]).all()
    assert np.isnan(buffer[:, encoder.end :]).all()
    return encoder, buffer[:, margin : encoder.end]


def check_against_gymnasium(space, seed):
    space.seed(seed)
    samples = [space.sample() for _ in range(3)]
    encoder, rows = encode(space, samples, margin=2)
    expected = np.stack([spaces.flatten(space, sample) for sample in samples]).astype(np.float32)
    np.testing.assert_array_equal(rows, expected)
    assert Layout(encoder.leaves).size == spaces.flatdim(space)


@pytest.mark.parametrize("space", LEAVES, ids=str)
def test_every_kind_of_leaf_equals_gymnasiums_flatten(space):
    check_against_gymnasium(space, seed=0)


@settings(max_examples=60, deadline=None)
@given(NESTED, st.integers(0, 100))
def test_any_nesting_equals_gymnasiums_flatten(space, seed):
    check_against_gymnasium(space, seed)


def test_multi_discrete_respects_start():
    space = spaces.MultiDiscrete([2, 3], start=[5, -1])
    _, rows = encode(space, [np.array([5, 1]), np.array([6, -1])])
    assert rows.tolist() == [[1, 0, 0, 0, 1], [0, 1, 1, 0, 0]]


def test_leaves_have_names_and_lie_without_gaps():
    space = spaces.Dict(
        agent=spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, (2,)))),
        view=spaces.Box(0, 255, (5, 4, 3), np.uint8),
    )
    leaves = Encoder(space, offset=7).leaves
    assert [leaf.name for leaf in leaves] == ["obs.agent.0", "obs.agent.1", "obs.view"]
    assert [leaf.kind for leaf in leaves] == ["vector", "vector", "image"]
    assert [leaf.shape for leaf in leaves] == [(3,), (2,), (3, 5, 4)]
    assert [(leaf.columns.start, leaf.columns.stop) for leaf in leaves] == [(7, 10), (10, 12), (12, 72)]
    assert Layout(leaves).images == leaves[2:]
    assert Layout(leaves).vectors == leaves[:2]


@pytest.mark.parametrize(
    ("shape", "dtype", "channel_first"),
    [
        ((5, 6, 3), np.uint8, (3, 5, 6)),
        ((5, 5, 3), np.float32, (3, 5, 5)),
        ((6, 5, 1), np.int64, (1, 6, 5)),
        ((4, 8, 7), np.uint8, (4, 8, 7)),
        ((3, 5, 4), np.uint8, (3, 5, 4)),
        ((12, 8, 7), np.uint8, (7, 12, 8)),
        ((8, 8, 12), np.uint8, (12, 8, 8)),
        ((12, 8, 8), np.uint8, (12, 8, 8)),
        ((9, 10, 9), np.uint8, (9, 10, 9)),
        ((64, 60, 9), np.float32, (9, 64, 60)),
        ((6, 5), np.uint8, (1, 6, 5)),
    ],
)
def test_images_become_channel_first_between_0_and_1(shape, dtype, channel_first):
    space = spaces.Box(0, 255, shape, dtype, seed=0)
    samples = [space.sample(), space.sample()]
    encoder, rows = encode(space, samples, margin=3)
    (leaf,) = encoder.leaves
    assert (leaf.kind, leaf.shape) == ("image", channel_first)
    moved = [np.moveaxis(s, -1, 0) if channel_first[1:] == shape[:2] and len(shape) == 3 else s for s in samples]
    expected = np.stack(moved).reshape(2, *channel_first) / 255
    np.testing.assert_allclose(rows.reshape(2, *channel_first), expected, rtol=1e-6)


@pytest.mark.parametrize(("shape", "last"), [((4, 6, 6, 3), True), ((4, 3, 6, 6), False), ((4, 6, 6, 1), True)])
def test_the_pictures_of_a_stack_give_their_channels_one_after_the_other(shape, last):
    space = spaces.Box(0, 255, shape, np.uint8, seed=0)
    sample = space.sample()
    encoder, rows = encode(space, [sample])
    channels_first = np.moveaxis(sample, -1, 1) if last else sample
    (leaf,) = encoder.leaves
    assert (leaf.kind, leaf.shape) == ("image", (channels_first.shape[0] * channels_first.shape[1], 6, 6))
    np.testing.assert_allclose(rows.reshape(channels_first.shape), channels_first / 255, rtol=1e-6)


@pytest.mark.parametrize("box", [spaces.Box(-1, 1, (5, 5, 3)), spaces.Box(0, 255, (5, 5)), spaces.Box(0, 255, (9,))])
def test_a_box_that_only_resembles_an_image_is_a_vector_as_it_is(box):
    box.seed(0)
    sample = box.sample()
    encoder, rows = encode(box, [sample])
    assert encoder.leaves[0].kind == "vector"
    np.testing.assert_array_equal(rows[0], sample.ravel())


@pytest.mark.parametrize(
    ("space", "where"),
    [
        (spaces.Text(4), "obs is a Text"),
        (spaces.Tuple((spaces.Discrete(2), spaces.Graph(spaces.Discrete(2), None))), "obs.1 is a Graph"),
        (spaces.Dict(a=spaces.Dict(b=spaces.Sequence(spaces.Discrete(2)))), "obs.a.b is a Sequence"),
    ],
)
def test_unsupported_spaces_are_named_with_those_that_are(space, where):
    with pytest.raises(ValueError, match=rf"{where} space.*supported are Box, Discrete, MultiDiscrete"):
        Encoder(space)


@pytest.mark.parametrize(
    ("space", "given_", "wanted"),
    [
        (spaces.Discrete(3), [0, 2], [0, 2]),
        (spaces.Discrete(3, start=4), [0, 2], [4, 6]),
        (spaces.Discrete(3, start=4), [[0], [2]], [4, 6]),
        (spaces.MultiDiscrete([2, 3]), [[0, 2], [1, 0]], [[0, 2], [1, 0]]),
        (spaces.MultiDiscrete([2, 3], start=[1, -1]), [[0, 2], [1, 0]], [[1, 1], [2, -1]]),
        (spaces.MultiDiscrete([[2], [3]]), [[0, 2], [1, 0]], [[[0], [2]], [[1], [0]]]),
        (spaces.Box(-1, 2, (2,)), [[-3.0, 0.5], [1.5, 9.0]], [[-1, 0.5], [1.5, 2]]),
        (spaces.Box(-1, 1, (2, 1)), [[-3.0, 0.5]], [[[-1], [0.5]]]),
        (spaces.Box(-1, 1, ()), [[-3.0], [0.5]], [-1, 0.5]),
        (spaces.Box(0, 5, (1,), np.int32), [[2.7], [8.0]], [[3], [5]]),
        (spaces.Box(3, 3, (1,)), [[2.7], [8.0]], [[3], [3]]),
        (spaces.Box(0, np.inf, (1,)), [[-2.5], [8.0]], [[0], [8]]),
        (spaces.MultiBinary(2), [[0, 1], [1, 1]], [[0, 1], [1, 1]]),
        (spaces.MultiBinary((2, 1)), [[0, 1], [1, 1]], [[[0], [1]], [[1], [1]]]),
    ],
    ids=str,
)
def test_actions_reach_the_environment_with_its_start_shape_bounds_and_dtype(space, given_, wanted):
    made = Actions(space).to_environment(np.array(given_))
    np.testing.assert_array_equal(made, wanted)
    assert made.dtype == space.dtype
    assert all(space.contains(np.asarray(action)) for action in made)


@pytest.mark.parametrize(
    "space",
    [
        spaces.MultiBinary((2, 2)),
        spaces.Discrete(5, start=2),
        spaces.MultiDiscrete([[2], [3]], start=[[3], [-3]]),
        spaces.Box(-1, 1, (2, 3)),
    ],
    ids=str,
)
def test_actions_go_there_and_back(space):
    actions, batch = Actions(space), batch_of(space, [space.sample() for _ in range(4)])
    np.testing.assert_array_equal(actions.to_environment(actions.from_environment(batch)), batch)


@pytest.mark.parametrize(
    ("space", "actions", "message"),
    [
        (spaces.Discrete(3), [0, 3], r"contain 3, but Discrete\(3\) wants shape \(2,\) with integers from 0 to 2"),
        (spaces.Discrete(3, start=7), [-1, 0], r"contain -1, .* from 0 to 2"),
        (spaces.Discrete(3), [0.0, 1.0], r"are float64, .* integers"),
        (spaces.Discrete(3), [[0, 1], [1, 1]], r"shape \(2, 2\), .* shape \(2,\)"),
        (spaces.MultiDiscrete([2, 3]), [[0, 2], [0, 3]], r"contain 3, .* from 0 to \[1, 2\]"),
        (spaces.MultiDiscrete([2, 3]), [0, 2], r"shape \(2,\), .* shape \(2, 2\)"),
        (spaces.Box(-1, 1, (2, 3)), [[0.0] * 5], r"shape \(1, 5\), .* shape \(1, 6\)"),
    ],
)
def test_wrong_actions_are_named_with_the_right_ones(space, actions, message):
    with pytest.raises(ValueError, match=message):
        Actions(space).to_environment(np.array(actions))


def test_unsupported_action_space_is_named():
    with pytest.raises(
        ValueError, match=r"Text\(1, 3, .* is not supported; it must be Discrete, MultiDiscrete, MultiBinary or Box"
    ):
        Actions(spaces.Text(3))


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint64])
def test_integer_actions_reach_their_bounds_and_do_not_wrap_around(dtype):
    bounds = np.iinfo(dtype)
    actions = Actions(spaces.Box(bounds.min, bounds.max, (1,), dtype))
    made = actions.to_environment(np.array([[1e20], [-1e20], [3.4], [np.inf]], np.float32))
    assert made.ravel().tolist() == [bounds.max, bounds.min, 3, bounds.max]
    assert made.dtype == dtype


def test_actions_that_are_nan_are_refused():
    with pytest.raises(ValueError, match="actions contain nan"):
        Actions(spaces.Box(-1, 1, (1,))).to_environment(np.array([[np.nan]]))


def test_a_float_image_from_0_to_1_is_an_image_as_it_is():
    box = spaces.Box(0, 1, (5, 6, 3), np.float32)
    box.seed(0)
    sample = box.sample()
    encoder, rows = encode(box, [sample])
    assert encoder.leaves[0].kind == "image"
    np.testing.assert_allclose(rows[0].reshape(3, 5, 6), np.moveaxis(sample, -1, 0))


def test_parts_without_a_fixed_width_are_left_out_and_paths_stay():
    space = spaces.Dict(
        mission=spaces.Text(9),
        pair=spaces.Tuple((spaces.Sequence(spaces.Discrete(2)), spaces.Discrete(3), spaces.Box(-1, 1, (2,)))),
        only=spaces.Dict(graph=spaces.Graph(spaces.Discrete(2), None)),
    )
    rest, left_out = without_unsized(space)
    assert left_out == ["obs.mission (Text)", "obs.pair.0 (Sequence)", "obs.only.graph (Graph)"]
    encoder = Encoder(rest)
    assert [leaf.name for leaf in encoder.leaves] == ["obs.pair.1", "obs.pair.2"]
    rows = np.zeros((1, 5), np.float32)
    encoder.write({"mission": ("words",), "pair": (None, np.array([2]), np.array([[0.5, -0.5]]))}, rows)
    assert rows.tolist() == [[0, 0, 1, 0.5, -0.5]]


@pytest.mark.parametrize("space", [spaces.Text(4), spaces.Dict(a=spaces.Tuple((spaces.Text(4),)))], ids=str)
def test_a_space_of_which_nothing_would_be_left_stays_to_be_refused(space):
    rest, left_out = without_unsized(space)
    assert rest == space
    assert len(left_out) == 1
    with pytest.raises(ValueError, match="which has no fixed width"):
        Encoder(rest)


def test_a_box_without_numbers_beside_others_has_no_columns():
    space = spaces.Dict(
        nothing=spaces.Box(-1, 1, (0,)), picture=spaces.Box(0, 255, (0, 4, 3), np.uint8), some=spaces.Box(-1, 1, (2,))
    )
    encoder, rows = encode(
        space, [{"nothing": np.zeros(0), "picture": np.zeros((0, 4, 3), np.uint8), "some": np.array([0.5, -0.5])}]
    )
    assert [leaf.name for leaf in encoder.leaves] == ["obs.some"]
    assert rows.tolist() == [[0.5, -0.5]]
