"""bittensor 11's own signing and verifying of requests, as peers of the Rust side.

`serve` answers POST /axon/SendSignal on a free port of 127.0.0.1, by uvicorn; who may pass is
decided by the SDK. `send` signs one request with the SDK, as it is or spoilt in one way.
Both print JSON lines on stdout.
"""

import argparse
import json
import os
import socket
import sys
import threading
import time

import bittensor as bt
import httpx
import uvicorn
from bittensor.sp_core import CRYPTO_ED25519, Keypair

PATH = "/axon/SendSignal"
parser = argparse.ArgumentParser()
parser.add_argument("role", choices=["serve", "send"])
parser.add_argument("--wallets", required=True)
parser.add_argument("--name", required=True)
parser.add_argument("--fail-first", type=int, default=0)
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--to", default="")
parser.add_argument("--case", default="ok")
parser.add_argument("--uuid", default="")
args = parser.parse_args()


def say(**what):
    print(json.dumps(what), flush=True)


def serve(wallet):
    own, count = wallet.hotkey.ss58_address, 0

    async def app(scope, receive, send):
        nonlocal count
        if scope["type"] != "http":
            return
        raw, more = b"", True
        while more:
            event = await receive()
            raw, more = raw + event.get("body", b""), event.get("more_body", False)
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        try:
            caller = bt.http_auth.verify(headers, raw, method=scope["method"], path=scope["path"],
                                         self_hotkey_ss58=own)
        except bt.http_auth.AuthError as error:
            status = 403 if isinstance(error, bt.http_auth.WrongReceiver) else 401
            answer = {"error": type(error).__name__, "message": str(error)}
        else:
            status, answer = 200, json.loads(raw)
            count += 1
            say(signal=answer["signal"], uuid=answer["miner_order_uuid"], version=answer["repo_version"],
                sender=caller.hotkey_ss58)
            answer["validator_hotkey"] = own
            if count <= args.fail_first:
                answer["error_message"] = f"injected {count}"
            else:
                answer.update(successfully_processed=True, order_json=json.dumps({"n": count}))
        body = json.dumps(answer).encode()
        await send({"type": "http.response.start", "status": status,
                    "headers": [(b"content-type", b"application/json"),
                                (b"content-length", str(len(body)).encode())]})
        await send({"type": "http.response.body", "body": body})

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, lifespan="off"))
    threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True).start()
    while not server.started:
        time.sleep(0.02)
    say(ready=listener.getsockname()[1])
    sys.stdin.read()  # until the other side goes away
    os._exit(0)


def send(wallet):
    key, case = wallet.hotkey, args.case
    if case == "ed25519":
        key = Keypair.create_from_seed(os.urandom(32), CRYPTO_ED25519)
    body = json.dumps({
        "signal": {"trade_pair": {"trade_pair_id": "BTCUSD"}, "order_type": "LONG", "leverage": 0.1, "note": "é 🚀"},
        "repo_version": "8.8.9", "successfully_processed": False, "error_message": "", "should_retry": True,
        "validator_hotkey": "", "order_json": "", "miner_order_uuid": args.uuid, "subaccount_id": None,
        "computed_body_hash": "",
    }).encode()
    ahead = {"stale": -11, "future": 3}.get(case, 0)
    headers = bt.http_auth.sign(
        key, method="POST", path="/other" if case == "wrong-path" else PATH, body=body,
        receiver_ss58={"unbound": None, "wrong-receiver": key.ss58_address}.get(case, args.to),
        nonce_ns=time.time_ns() + ahead * 1_000_000_000)
    if case == "no-version":
        del headers["X-Bittensor-Version"]
    if case == "tampered-body":
        body = body.replace(b"LONG", b"FLAT")
    with httpx.Client(timeout=30.0, trust_env=False) as client:
        for _ in range(2 if case == "replay" else 1):
            reply = client.post(f"http://127.0.0.1:{args.port}{PATH}", content=body, headers=headers)
            answer = reply.json()
            say(status=reply.status_code, error=answer.get("error", answer.get("error_message")),
                processed=answer.get("successfully_processed"), validator=answer.get("validator_hotkey"))


wallet = bt.Wallet(name=args.name, hotkey="default", path=args.wallets)
serve(wallet) if args.role == "serve" else send(wallet)
