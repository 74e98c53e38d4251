"""Parameters read exactly, and whatever is wrong with them has Binance's code."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from sim.errors import ApiError
from sim.orders import Side
from sim.params import Params, decode_json, params_of_object


def code_of(action: Callable[[], object]) -> int:
    """Return the code with which the action is refused."""
    with pytest.raises(ApiError) as caught:
        action()
    return caught.value.code


def test_query_wins_over_body() -> None:
    """A name in both has the query's value (facts 2)."""
    params = Params.of_request("a=1&b=%2B+x", "a=2&c=3&&=4")
    assert [params.text(name) for name in "abc"] == ["1", "+ x", "3"]


@pytest.mark.parametrize("text", ["1e3", "-1", "+1", ".5", "1.", "0x1", "NaN", " 1", "1\n", "١", "1" * 21])
def test_only_plain_decimal_text_is_a_number(text: str) -> None:
    """Exponents, signs, other scripts and overlong text are illegal characters (-1100)."""
    params = Params({"quantity": text})
    assert code_of(lambda: params.decimal("quantity")) == -1100
    assert code_of(lambda: params.integer("quantity")) == -1100


def test_numbers_keep_every_digit() -> None:
    """No float lies between the text and the value."""
    assert Params({"p": "0.10000000000000000001"}).decimal("p") == Decimal("0.10000000000000000001")


def test_missing_parameters_are_named() -> None:
    """-1102 says which parameter is missing (facts 9)."""
    params = Params({})
    with pytest.raises(ApiError, match="'price'"):
        params.decimal("price")
    assert code_of(lambda: params.choice("side", Side, -1117)) == -1102
    assert (params.text_or("a", "b"), params.integer_or("a", 7), params.optional_integer("a")) == (
        "b",
        7,
        None,
    )


def test_flags_are_words() -> None:
    """Flags are the strings true and false in requests (facts 3)."""
    params = Params({"yes": "true", "no": "FALSE", "odd": "1"})
    assert params.flag_or("yes", default=False)
    assert not params.flag_or("no", default=True)
    assert params.flag_or("absent", default=True)
    assert code_of(lambda: params.flag_or("odd", default=True)) == -1130


def test_choices_have_their_own_codes() -> None:
    """An unknown member gives the code of its parameter."""
    assert Params({"side": "SELL"}).choice("side", Side, -1117) is Side.SELL
    assert code_of(lambda: Params({"side": "sell"}).choice("side", Side, -1117)) == -1117


@pytest.mark.parametrize("text", ["", "{", "{}", "7", '"x"', "[" * 100_000, "9" * 5000])
def test_what_is_no_json_list_is_invalid_data(text: str) -> None:
    """Broken, deep, huge or other JSON is -1130, never an exception."""
    assert code_of(lambda: Params({"orderIdList": text}).json_list("orderIdList")) == -1130


def test_fractions_in_json_stay_text() -> None:
    """JSON numbers with a fraction are never made floats."""
    assert decode_json('{"a":0.1,"b":1,"c":NaN}') == {"a": "0.1", "b": 1, "c": "NaN"}


def test_objects_of_a_batch_read_like_a_query() -> None:
    """Numbers, flags and nulls of a batch element become the text that a query would have had."""
    params = params_of_object({"quantity": "0.1", "reduceOnly": True, "orderId": 7, "price": None, "x": [1]})
    assert params.decimal("quantity") == Decimal("0.1")
    assert params.flag_or("reduceOnly", default=False)
    assert params.integer("orderId") == 7
    assert "price" not in params
    assert params.text("x") == "[1]"
    assert code_of(lambda: params_of_object([])) == -1130
