"""Query strings: the same text as the standard library makes, signed or not."""

from urllib.parse import urlencode

from hypothesis import given
from hypothesis import strategies as st

from utils.query import query_text

VALUES = st.one_of(
    st.integers(), st.text(), st.from_regex(r"[A-Za-z0-9_.~-]*\n?", fullmatch=True), st.booleans()
)


@given(st.dictionaries(st.text(), VALUES))
def test_text_is_what_the_standard_library_makes_of_it(params: dict[str, str | int]) -> None:
    """Whatever the names and values are; lone surrogates with the error handler that takes them."""
    assert query_text(params, errors="surrogatepass") == urlencode(params, errors="surrogatepass")
