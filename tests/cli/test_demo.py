"""The main job, whole: it trains, serves and streams real data, so it is the slowest test here."""


def test_the_demo_holds_and_reports_what_it_found(statewise, tmp_path):
    done = statewise("demo", "--folder", tmp_path / "demo", "--json")

    assert done.code == 0, done.err
    assert done.json["accuracy"] >= 0.96
    assert done.json["rmse"] < done.json["persistence_rmse"]
    assert done.json["streamed_equals_whole"] is True
    assert "have the bits of one whole run" in done.err
    assert (tmp_path / "demo" / "repository" / "vowels" / "1" / "model.onnx").is_file()


def test_a_folder_that_cannot_be_made_is_one_line(statewise, tmp_path):
    (tmp_path / "file").write_text("")

    assert str(tmp_path / "file") in statewise("demo", "--folder", tmp_path / "file").complaint
