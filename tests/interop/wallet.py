"""The wallets of the real bittensor packages: one writes what Rust reads, and the other way round.

Works with bittensor_wallet 4.x and with bittensor 11, which have the same names for it.
`write` makes a coldkey, a hotkey and an encrypted hotkey; `read` opens what Rust made. Both print
one JSON line.
"""

import json
import os
import sys

sys.argv, argv = sys.argv[:1], sys.argv
os.environ["BT_NO_PARSE_CLI_ARGS"] = "1"

try:
    from bittensor_wallet import Keypair, Wallet
except ImportError:
    from bittensor.sp_core import Keypair
    from bittensor import Wallet

role, wallets, password = argv[1:4]
said = {}


def show(what, key):
    """The key's address, if it really signs."""
    assert key.verify(b"order", key.sign(b"order"))
    said[what] = key.ss58_address


def wallet(hotkey):
    return Wallet(name="miner", hotkey=hotkey, path=wallets)


plain, locked = wallet("plain"), wallet("locked")
if role == "write":
    plain.create_new_coldkey(n_words=24, use_password=True, overwrite=True, suppress=True, coldkey_password=password)
    plain.create_new_hotkey(n_words=12, use_password=False, overwrite=True, suppress=True)
    locked.create_new_hotkey(n_words=12, use_password=True, overwrite=True, suppress=True, hotkey_password=password)
show("coldkey", plain.get_coldkey(password=password))
show("plain", plain.get_hotkey())
show("locked", locked.get_hotkey(password=password))
said["coldkeypub"] = plain.coldkeypub.ss58_address
said["plainpub"] = plain.hotkeypub.ss58_address
if role == "read":
    # By the password in the variable that Rust set.
    show("by_variable", plain.get_coldkey())
    with open(os.path.join(wallets, "account.json")) as file:
        show("account", Keypair.create_from_encrypted_json(file.read(), password))
    try:
        locked.get_hotkey(password=password + "x")
    except BaseException as error:  # noqa: BLE001  (4.x panics, which is no Exception)
        said["wrong"] = type(error).__name__
file = plain.coldkey_file
said["variable"] = file.env_var_name() if callable(file.env_var_name) else file.env_var_name
print(json.dumps(said), flush=True)
