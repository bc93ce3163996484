#!/usr/bin/env python3
"""Signs with bittensor 11 and sends one signal to every port given, with a new client per attempt."""
import asyncio
import json
import resource
import statistics
import sys
import time

import bittensor
import httpx
from bittensor.sp_core import Keypair

rounds, ports = int(sys.argv[1]), [int(port) for port in sys.argv[2:]]
PATH = "/axon/SendSignal"
SIGNAL = {"trade_pair": {"trade_pair_id": "BTCUSDC"}, "order_type": "LONG", "leverage": 0.1, "execution_type": "MARKET"}
key = Keypair.create_from_uri("//Alice")


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def attempt(port):
    message = {"signal": SIGNAL, "successfully_processed": False, "error_message": "", "should_retry": True,
               "validator_hotkey": "", "order_json": "", "miner_order_uuid": ""}
    body = json.dumps(message).encode()
    headers = bittensor.http_auth.sign(key, method="POST", path=PATH, body=body, receiver_ss58=key.ss58_address)
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.post(f"http://127.0.0.1:{port}{PATH}", content=body, headers=headers)
    assert answer.json()["successfully_processed"]


async def main():
    walls, cpus = [], []
    for i in range(rounds + 2):
        start, used = time.perf_counter(), cpu()
        await asyncio.gather(*(attempt(port) for port in ports))
        if i >= 2:
            walls.append(time.perf_counter() - start)
            cpus.append(cpu() - used)
    print(json.dumps({"wall_us": 1e6 * statistics.median(walls),
                      "cpu_us_per_delivery": 1e6 * statistics.median(cpus) / len(ports)}))


asyncio.run(main())
