#!/usr/bin/env python3
"""A receive server as the Python miner has it: Flask on waitress, one file per signal, never synced."""
import json
import logging
import os
import sys
import uuid

import waitress
from flask import Flask, jsonify, request

port, folder, key = int(sys.argv[1]), sys.argv[2], sys.argv[3]
PAIRS = {"BTCUSD": ("BTC/USD", 0.002, 0.001, 20, "crypto"), "EURUSD": ("EUR/USD", 0.00007, 0.001, 500, "forex")}
app = Flask(__name__)


def normalised(data):
    pair = data["trade_pair"]
    pair = pair["trade_pair_id"] if isinstance(pair, dict) else pair
    name, fees, least, most, category = PAIRS[pair]
    side, size = data["order_type"].upper(), float(data["leverage"])
    if side not in ("LONG", "SHORT", "FLAT"):
        raise ValueError("order_type")
    if side != "FLAT" and not least <= abs(size) <= most:
        raise ValueError("leverage")
    described = {"trade_pair_id": pair, "trade_pair": name, "fees": fees, "min_leverage": least,
                 "max_leverage": most, "trade_pair_category": category}
    return {"trade_pair": described, "order_type": side, "leverage": -abs(size) if side == "SHORT" else size}


@app.post("/api/receive-signal")
def receive():
    data = request.json
    if data.get("api_key") != key:
        return jsonify({"error": "Invalid API key"}), 401
    try:
        signal = normalised(data)
    except (KeyError, ValueError) as error:
        return jsonify({"error": f"improperly formatted signal received. {error}"}), 400
    with open(os.path.join(folder, str(uuid.uuid4())), "w") as file:
        file.write(json.dumps(signal, indent=4))
    return jsonify({"message": f"Signal {signal} received successfully"})


logging.getLogger("waitress.queue").setLevel(logging.ERROR)
print("ready", flush=True)
waitress.serve(app, host="127.0.0.1", port=port, _quiet=True)
