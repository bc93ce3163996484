"""The real axon and the real dendrite of bittensor 10, as peers of the Rust side.

`serve` answers SendSignal on a free port of 127.0.0.1; all checks are the SDK's own.
`send` sends one signal with the SDK's dendrite, as it is or spoilt in one way.
Both print JSON lines on stdout.
"""

import argparse
import asyncio
import json
import os
import socket
import sys
import threading
import time
import typing

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
sys.argv = sys.argv[:1]
os.environ["BT_NO_PARSE_CLI_ARGS"] = "1"

import bittensor as bt  # noqa: E402
from bittensor.core.chain_data import AxonInfo  # noqa: E402
from bittensor.utils import networking  # noqa: E402


class SendSignal(bt.Synapse):
    required_hash_fields: typing.ClassVar[tuple] = ("signal",)
    signal: dict = {}
    repo_version: str = "N/A"
    successfully_processed: bool = False
    error_message: str = ""
    should_retry: bool = True
    validator_hotkey: str = ""
    order_json: str = ""
    miner_order_uuid: str = ""
    subaccount_id: typing.Optional[int] = None
    computed_body_hash: str = ""


def say(**what):
    print(json.dumps(what), flush=True)


def serve(wallet):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lock, count = threading.Lock(), [0]

    def forward(synapse: SendSignal) -> SendSignal:
        with lock:
            count[0] += 1
            n = count[0]
        say(signal=synapse.signal, uuid=synapse.miner_order_uuid, version=synapse.repo_version,
            sender=synapse.dendrite.hotkey)
        synapse.validator_hotkey = wallet.hotkey.ss58_address
        if n <= args.fail_first:
            synapse.error_message = f"injected {n}"
        else:
            synapse.successfully_processed = True
            synapse.order_json = json.dumps({"n": n})
        return synapse

    axon = bt.Axon(wallet=wallet, port=port, ip="127.0.0.1", external_ip="127.0.0.1", external_port=port)
    axon.attach(forward_fn=forward)
    axon.start()
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.02)
    say(ready=port)
    sys.stdin.read()  # until the other side goes away
    os._exit(0)


class Spoiler(bt.Dendrite):
    def preprocess_synapse_for_request(self, target_axon_info, synapse, timeout=12.0):
        synapse = super().preprocess_synapse_for_request(target_axon_info, synapse, timeout)
        mine, theirs = synapse.dendrite, synapse.axon
        if args.case == "stale":
            mine.nonce -= 60_000_000_000
        elif args.case == "future":
            mine.nonce += 3_600_000_000_000
        elif args.case == "wrong-receiver":
            theirs.hotkey = mine.hotkey
        signed = f"{mine.nonce}.{mine.hotkey}.{theirs.hotkey}.{mine.uuid}.{synapse.body_hash}"
        mine.signature = "0x" + self.keypair.sign(signed).hex()
        if args.case == "tampered-signature":
            mine.signature = mine.signature[:-4] + "0080"
        elif args.case == "unsigned":
            mine.signature = None
        elif args.case == "tampered-body":
            headers = synapse.to_headers()
            object.__setattr__(synapse, "to_headers", lambda: headers)
            synapse.signal = {**synapse.signal, "leverage": 9.9}
        return synapse


async def send(wallet):
    networking.get_external_ip = lambda: "198.51.100.7"  # no call to the outside
    dendrite = Spoiler(wallet=wallet)
    axon = AxonInfo(version=1, ip="127.0.0.1", port=args.port, ip_type=4, hotkey=args.to, coldkey=args.to)
    for _ in range(2 if args.case == "repeat" else 1):
        signal = {"trade_pair": {"trade_pair_id": "BTCUSD"}, "order_type": "LONG", "leverage": 1e-07,
                  "note": "it's \"both\" é 🚀", "n": [1, 1.0, None, True]}
        message = SendSignal(signal=signal, miner_order_uuid=args.uuid, repo_version="8.8.9")
        reply = (await dendrite.forward([axon], message, timeout=12.0, deserialize=False))[0]
        say(status=reply.dendrite.status_code, text=reply.dendrite.status_message, error=reply.error_message,
            processed=reply.successfully_processed, validator=reply.validator_hotkey)
    await dendrite.aclose_session()


wallet = bt.Wallet(name=args.name, hotkey="default", path=args.wallets)
if args.role == "serve":
    serve(wallet)
else:
    asyncio.run(send(wallet))
    os._exit(0)
