import numpy as np

from app.charts import (
    MAX_POINTS,
    Curve,
    figures_chart,
    layer_heatmap,
    loss_curves,
    norm_curves,
    score_chart,
    smoothed,
    thinned,
    token_heatmap,
)


def test_smoothing_starts_at_the_first_value_and_follows():
    values = np.array([4.0, 2.0, 2.0])
    assert np.array_equal(smoothed(values, 0.0), values)
    # By hand: weights 0.5·0.5 and 0.5, over their sum 0.75; then 0.125, 0.25, 0.5 over 0.875.
    assert np.allclose(smoothed(values, 0.5), [4.0, 2 + 2 / 3, 2 + 2 / 7])


def test_thinning_keeps_first_and_last_point():
    steps = np.arange(10_001.0)
    few, values = thinned(steps, -steps)
    assert len(few) == MAX_POINTS and few[0] == 0 and few[-1] == 10_000
    assert np.array_equal(values, -few)


def test_every_curve_is_a_named_line_and_names_are_no_html():
    one = Curve("train", [1, 2], [3.0, 2.0])
    other = Curve("<b>x</b>", [1], [1.0], place=1, dotted=True)
    figure = loss_curves([one, other], "loss")
    assert [trace.name for trace in figure.data] == ["train", "&lt;b&gt;x&lt;/b&gt;"]
    assert figure.layout.xaxis.title.text == "training step"
    assert figure.data[1].mode == "markers"  # a single point would be no visible line
    assert [trace.line.dash for trace in figure.data] == ["solid", "dot"]
    assert figure.data[0].line.color != figure.data[1].line.color


def test_smoothed_curves_keep_the_raw_one_behind():
    figure = loss_curves([Curve("train", [1, 2, 3], [3.0, 2.0, 4.0])], "loss", True, 0.9)
    assert len(figure.data) == 2 and list(figure.data[0].y) == [3.0, 2.0, 4.0]
    assert figure.layout.yaxis.type == "log"


def test_figures_stand_beside_their_chance_level():
    row = {"model": "t", "name": "R@1", "value": 0.6, "chance": 0.1, "low": 0.5, "high": 0.7}
    figure = figures_chart([row, {**row, "model": "s", "value": 0.3, "low": 0.2, "high": 0.35}])
    bars, chance = figure.data[:2], figure.data[2]
    assert [bar.x[0] for bar in bars] == [0.6, 0.3]
    assert np.allclose(bars[0].error_x.array, 0.1) and np.allclose(bars[0].error_x.arrayminus, 0.1)
    assert chance.name == "chance" and list(chance.x) == [0.1]


def test_a_token_heatmap_names_every_token_once_though_words_recur():
    figure = token_heatmap(np.eye(3), ["the", "<b>", "the"], "Teacher", 0.0, 1.0)
    heat = figure.data[0]
    assert np.array_equal(heat.z, np.eye(3)) and (heat.zmin, heat.zmax) == (0, 1)
    assert list(figure.layout.xaxis.ticktext) == ["the", "&lt;b&gt;", "the"]
    assert list(figure.layout.xaxis.tickvals) == [0, 1, 2]
    assert heat.text[1][2] == "&lt;b&gt; · the"
    assert not token_heatmap(np.eye(40), ["x"] * 40, "", 0, 1).layout.xaxis.showticklabels


def test_layers_are_written_into_their_cells_while_these_are_few():
    assert layer_heatmap(np.eye(3), "CKA").data[0].texttemplate
    assert layer_heatmap(np.eye(13), "CKA").data[0].texttemplate is None


def test_scores_without_any_pair_draw_no_curve():
    shares = np.array([[0.25, 0.75], [0.5, 0.5], [0.0, 0.0]])
    figure = score_chart(np.array([-1.0, 0.0, 1.0]), shares, ["own", "other", "same"], "Scores")
    assert [trace.name for trace in figure.data] == ["own", "other"]
    assert list(figure.data[0].x) == [-0.5, 0.5] and list(figure.data[0].y) == [0.25, 0.75]


def test_gradient_norms_have_a_legend_on_a_logarithmic_scale():
    figure = norm_curves([Curve("mlm", [1, 2], [3.0, 0.1]), Curve("nst", [1], [1.0], 1)], "pull")
    assert figure.layout.showlegend and figure.layout.yaxis.type == "log"
    assert [trace.name for trace in figure.data] == ["mlm", "nst"]
