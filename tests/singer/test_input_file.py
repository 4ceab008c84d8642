"""The option `--input` with URLs."""

import click
import pytest

from target_salesloft.singer.input_file import InputFile


@pytest.mark.parametrize(
    "url",
    [
        "https://ann:s3cr3t@127.0.0.1:1/in.singer?sig=abc123",
        "https://127.0.0.1:1/in.singer?token=s3cr3t&sig=abc123",
        "nosuchstore://ann:s3cr3t@127.0.0.1/in.singer?sig=abc123",
        "s3://ann:s3cr3t@[/in.singer?sig=abc123",
    ],
)
def test_errors_of_a_url_show_neither_credentials_nor_its_query(url):
    with pytest.raises(click.UsageError) as error:
        InputFile("rb").convert(url, None, None)
    shown = error.value.format_message()
    assert "s3cr3t" not in shown
    assert "abc123" not in shown
    assert "in.singer" in shown


def test_path_is_opened(tmp_path):
    file = tmp_path / "in.singer"
    file.write_bytes(b"{}\n")
    with InputFile("rb").convert(str(file), None, click.Context(click.Command("x"))) as opened:
        assert opened.read() == b"{}\n"
