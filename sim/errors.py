"""Refusals of the simulated exchange: Binance's code, message and HTTP status as values.

Source: facts section 9 (codes and texts), section 5 (statuses).
"""


class ApiError(Exception):
    """The request was refused and nothing was executed; ``code`` and ``message`` make the reply's body."""

    def __init__(self, code: int, message: str, status: int = 400, retry_after_s: int | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.status = status
        self.retry_after_s = retry_after_s


class UnknownRoute(Exception):
    """No stream endpoint lives at this target; the server answers the handshake with 404."""


class RefusedHandshake(Exception):
    """A stream cannot be opened now; the server answers the handshake with ``status``."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the handshake was refused with HTTP {status}")
        self.status = status


TEXTS: dict[int, str] = {
    -1000: "An unknown error occured while processing the request.",
    -1001: "Internal error; unable to process your request. Please try again.",
    -1002: "You are not authorized to execute this request.",
    -1003: "Too many requests; current limit of IP is {} requests per minute. Please use the websocket for live "
    "updates to avoid polling the API.",
    -1006: "An unexpected response was received from the message bus. Execution status unknown.",
    -1007: "Timeout waiting for response from backend server. Send status unknown; execution status unknown.",
    -1008: "Request throttled by system-level protection. Reduce-only/close-position orders are exempt. Please try "
    "again.",
    -1010: "ERROR_MSG_RECEIVED.",
    -1013: "INVALID_MESSAGE.",
    -1014: "Unsupported order combination.",
    -1016: "This service is no longer available.",
    -1015: "Too many new orders; current limit is {} orders per {}.",
    -1020: "This operation is not supported.",
    -1023: "Start time is greater than end time.",
    -1021: "Timestamp for this request is outside of the recvWindow.",
    -1022: "Signature for this request is not valid.",
    -1099: "Not found, unauthenticated, or unauthorized.",
    -1100: "Illegal characters found in parameter '{}'.",
    -1101: "Duplicate values for parameter '{}' detected.",
    -1102: "Mandatory parameter '{}' was not sent, was empty/null, or malformed.",
    -1103: "An unknown parameter was sent.",
    -1104: "Not all sent parameters were read.",
    -1105: "Parameter '{}' was empty.",
    -1106: "Parameter '{}' sent when not required.",
    -1109: "Invalid account.",
    -1111: "Precision is over the maximum defined for this asset.",
    -1115: "Invalid timeInForce.",
    -1116: "Invalid orderType.",
    -1117: "Invalid side.",
    -1120: "Invalid interval.",
    -1121: "Invalid symbol.",
    -1122: "Invalid symbol status.",
    -1125: "This listenKey does not exist.",
    -1128: "Combination of optional parameters invalid.",
    -1130: "Data sent for parameter '{}' is not valid.",
    -1136: "Invalid newOrderRespType.",
    -1131: "recvWindow must be less than 60000.",
    -2010: "NEW_ORDER_REJECTED",
    -2011: "Unknown order sent.",
    -2012: "Batch cancel failure.",
    -2013: "Order does not exist.",
    -2014: "API-key format invalid.",
    -2015: "Invalid API-key, IP, or permissions for action.",
    -2017: "API Keys are locked on this account.",
    -2018: "Balance is insufficient.",
    -2019: "Margin is insufficient.",
    -2020: "Unable to fill.",
    -2021: "Order would immediately trigger.",
    -2022: "ReduceOnly Order is rejected.",
    -2023: "User in liquidation mode now.",
    -2024: "Position is not sufficient.",
    -2025: "Reach max open order limit.",
    -2027: "Exceeded the maximum allowable position at current leverage.",
    -2028: "Leverage is smaller than permitted: insufficient margin balance.",
    -4001: "Price less than 0.",
    -4002: "Price greater than max price.",
    -4003: "Quantity less than or equal to zero.",
    -4004: "Quantity less than min quantity.",
    -4005: "Quantity greater than max quantity.",
    -4013: "Price less than min price.",
    -4014: "Price not increased by tick size.",
    -4015: "Client order id is not valid.",
    -4016: "Limit price can't be higher than {}.",
    -4021: "{} is not valid depth limit.",
    -4023: "Quantity not increased by step size.",
    -4024: "Limit price can't be lower than {}.",
    -4028: "Leverage {} is not valid.",
    -4032: "Exceed maximum cancel order size.",
    -4045: "Reach max stop order limit.",
    -4046: "No need to change margin type.",
    -4047: "Margin type cannot be changed if there exists open orders.",
    -4048: "Margin type cannot be changed if there exists position.",
    -4049: "Add margin only support for isolated position.",
    -4050: "Cross balance insufficient.",
    -4051: "Isolated balance insufficient.",
    -4054: "Cannot add position margin: position is 0.",
    -4055: "Amount must be positive.",
    -4059: "No need to change position side.",
    -4060: "Invalid position side.",
    -4061: "Order's position side does not match user's setting.",
    -4062: "Invalid or improper reduceOnly value.",
    -4067: "Position side cannot be changed if there exists open orders.",
    -4068: "Position side cannot be changed if there exists position.",
    -4082: "Invalid number of batch place orders.",
    -4083: "Fail to place batch orders.",
    -4087: "User can only place reduce only order.",
    -4088: "User can not place order currently.",
    -4105: "Symbol is under risk control: only reduce-only orders are allowed.",
    -4106: "Symbol is under risk control: only reduce-only orders are allowed.",
    -4107: "Symbol is under risk control: only reduce-only orders are allowed.",
    -4109: "This account is inactive. Please transfer any asset to it to reactivate it.",
    -4116: "ClientOrderId is duplicated.",
    -4118: "ReduceOnly Order Failed. Please check your existing position and open orders.",
    -4120: "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead.",
    -4131: "The counterparty's best price does not meet the PERCENT_PRICE filter limit.",
    -4140: "Invalid symbol status for opening position.",
    -4141: "Symbol is closed.",
    -4161: "Leverage reduction is not supported in Isolated Margin Mode with open positions.",
    -4164: "Order's notional must be no smaller than {} (unless you choose reduce only).",
    -4165: "Maximum time interval is {} days.",
    -4167: "Unable to adjust to Multi-Assets mode with symbols of USDⓈ-M Futures under isolated-margin mode.",
    -4168: "Unable to adjust to isolated-margin mode under the Multi-Assets mode.",
    -4170: "Unable to adjust Multi-Assets Mode with open orders in USDⓈ-M Futures.",
    -4171: "Adjusted asset mode is currently set and does not need to be adjusted repeatedly.",
    -4189: "Symbol is under risk control: only reduce-only orders are allowed.",
    -4192: "Trade forbidden due to Cooling-off Period.",
    -4400: "Futures Trading Quantitative Rules violated, only reduceOnly order is allowed, please try again later.",
    -4401: "Futures Trading Risk Control Rules of large position holding violated, only reduceOnly order is "
    "allowed, please reduce the position.",
    -4402: "Dear user, as per our Terms of Use and compliance with local regulations, this feature is currently not "
    "available in your region.",
    -4403: "Dear user, as per our Terms of Use and compliance with local regulations, the leverage can only up to 10x "
    "in your region",
    -4531: "Position side cannot be changed: the COIN-M account is being synchronised.",
    -5021: "Due to the order could not be filled immediately, the FOK order has been rejected. "
    "The order will not be recorded in the order history",
    -5022: "Due to the order could not be executed as maker, the Post Only order will be rejected. "
    "The order will not be recorded in the order history",
    -5024: "Symbol is not in trading status. Order amendment is not permitted.",
    -5025: "Only limit order is supported.",
    -5026: "Exceed maximum modify order limit.",
    -5027: "No need to modify the order.",
    -5028: "Timestamp for this request is outside of the ME recvWindow.",
    -5029: "Order's notional must be no smaller than {}",
    -5037: "Invalid price match",
    -5038: "Price match only supports order type: LIMIT, STOP AND TAKE_PROFIT",
    -5039: "Invalid self trade prevention mode",
    -5040: "The goodTillDate timestamp must be greater than the current time plus 600 seconds and smaller than "
    "253402300799000 (UTC 9999-12-31 23:59:59)",
    -5041: "No depth matches this BBO order",
    -5043: "A pending modification already exists for this order.",
    -5047: "The original order is not a reduce-only order.",
}

_STATUSES = {
    -1001: 503,
    -1003: 429,
    -1006: 500,
    -1007: 408,
    -1008: 503,
    -1015: 429,
    -2014: 401,
    -2015: 401,
}

_EXAMPLES: dict[int, tuple[str, ...]] = {
    -1003: ("2400",),
    -1015: ("300", "10 SECOND"),
    -1100: ("price",),
    -1101: ("symbol",),
    -1102: ("quantity",),
    -1105: ("symbol",),
    -1106: ("reduceOnly",),
    -1130: ("limit",),
    -4016: ("52500.00",),
    -4021: ("3",),
    -4024: ("47500.00",),
    -4028: ("126",),
    -4164: ("50",),
    -4165: ("7",),
    -5029: ("50",),
}
"""What stands in the texts of refusals that are made up."""


def status_of(code: int) -> int:
    """Return the HTTP status that comes with a code."""
    return _STATUSES.get(code, 400)


def usual_text(code: int) -> str:
    """Return the text of a code as it might be, for a refusal that nothing has brought about."""
    return TEXTS[code].format(*_EXAMPLES.get(code, ())) if code in TEXTS else "Injected error."


def refusal(code: int, *details: object) -> ApiError:
    """Return the error of ``code`` with its usual text, ``details`` filled into it, and its HTTP status."""
    return ApiError(code, TEXTS[code].format(*details), status_of(code))
