"""The control page: the view, and buttons that do what the control doors do. One document without any other source."""

import base64
import hashlib

_STYLE = """
body{font:14px/1.4 system-ui,sans-serif;margin:1rem;color:#1c1e21;background:#fafaf8}
h1{font-size:1.1rem;margin:0 0 .5rem}
pre{font:12px/1.35 ui-monospace,monospace;background:#fff;border:1px solid #d8d8d2;padding:.75rem;overflow:auto}
fieldset{border:1px solid #d8d8d2;margin:0 0 .75rem;padding:.5rem .75rem}
legend{color:#5b5f66}
button,input,select{font:inherit;padding:.2rem .5rem;margin:.1rem}
input.line{width:min(40rem,90%)}
#said{color:#5b5f66;white-space:pre-wrap}
"""

_SCRIPT = """
const view=document.getElementById('view'),said=document.getElementById('said');
const field=name=>encodeURIComponent(document.getElementById(name).value.trim());
async function look(){
  try{const reply=await fetch('/sim/view',{cache:'no-store'});view.textContent=await reply.text();}
  catch(error){view.textContent='the exchange does not answer';}
}
async function act(path){
  const url=path.replace('SYMBOL',field('symbol')).replace('QUANTITY',field('quantity'));
  try{const reply=await fetch(url,{method:'POST'});
    said.textContent=reply.status+' '+(await reply.text()).slice(0,600);}
  catch(error){said.textContent=String(error);}
  look();
}
document.querySelectorAll('button[data-path]').forEach(
  button=>button.addEventListener('click',()=>act(button.dataset.path)));
document.getElementById('inject').addEventListener('submit',event=>{
  event.preventDefault();
  const pairs=document.getElementById('fault').value.split(',').map(part=>part.split(':'));
  const query=new URLSearchParams(pairs.map(([name,...rest])=>[name.trim(),rest.join(':').trim()]));
  act('/sim/fault?'+query);
});
look();setInterval(look,1000);
"""

_BUTTONS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Market",
        (
            ("+10 bps", "/sim/market?symbol=SYMBOL&move_bps=10"),
            ("-10 bps", "/sim/market?symbol=SYMBOL&move_bps=-10"),
            ("+100 bps", "/sim/market?symbol=SYMBOL&move_bps=100"),
            ("-100 bps", "/sim/market?symbol=SYMBOL&move_bps=-100"),
            ("halt for 20 s", "/sim/halt?symbol=SYMBOL&seconds=20"),
        ),
    ),
    (
        "Account",
        (
            ("foreign buy", "/sim/fill?symbol=SYMBOL&side=BUY&quantity=QUANTITY"),
            ("foreign sale", "/sim/fill?symbol=SYMBOL&side=SELL&quantity=QUANTITY"),
            ("reduce-only for 60 s (-4400)", "/sim/restrict?code=-4400&seconds=60&symbol=SYMBOL"),
            ("auto-deleverage half", "/sim/fault?fault=adl&symbol=SYMBOL&fraction=0.5&at_s=0"),
            ("expire the listen key", "/sim/expire-listen-key"),
            ("expire it without notice", "/sim/expire-listen-key?notice=false"),
        ),
    ),
    (
        "Streams and network",
        (
            ("silent book for 20 s", "/sim/silence?stream=bookTicker&seconds=20"),
            ("silent account for 20 s", "/sim/silence?stream=userData&seconds=20"),
            ("close all sockets", "/sim/fault?fault=close-sockets&at_s=0"),
            ("half-open sockets", "/sim/fault?fault=half-open-sockets&at_s=0"),
            ("outage of 10 s", "/sim/outage?seconds=10"),
        ),
    ),
)


def _source(text: str) -> str:
    """Return what a content security policy calls an inline text by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


HEADERS = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": (
        f"default-src 'none'; connect-src 'self'; style-src {_source(_STYLE)}; script-src {_source(_SCRIPT)}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
"""What the page is served with: nothing but its own style and script, which talk to this exchange only."""


def page_html(symbol: str, quantity: str) -> str:
    """Return the page; ``symbol`` is what its buttons act on at first, one of the exchange's own names, and
    ``quantity`` the size of the fills that they make.
    """
    groups = "".join(
        f"<fieldset><legend>{legend}</legend>"
        + "".join(
            f'<button data-path="{path.replace("&", "&amp;")}">{label}</button>' for label, path in buttons
        )
        + "</fieldset>"
        for legend, buttons in _BUTTONS
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>simulated exchange</title>'
        f"<style>{_STYLE}</style></head><body><h1>Simulated exchange</h1>"
        f'<p>Symbol <input id="symbol" value="{symbol}" size="12"> '
        f'Quantity <input id="quantity" value="{quantity}" size="8"></p>{groups}'
        '<form id="inject"><fieldset><legend>Fault (docs/faults.md)</legend><input class="line" id="fault" '
        'value="fault: drop-reply, path: /fapi/v1/order, for_s: 10, probability: 0.5"><button>inject</button>'
        f'</fieldset></form><p id="said"></p><pre id="view">…</pre><script>{_SCRIPT}</script></body></html>'
    )
