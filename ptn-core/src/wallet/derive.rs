//! From a password to a key: slow on purpose, and large.
//!
//! Argon2i of bittensor takes 512 MiB. One derivation runs at a time in a process, whatever the
//! number of threads, and a machine without the memory gets an error instead of a dead process.

use std::sync::{Mutex, PoisonError};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::{Zeroize as _, Zeroizing};

use super::{KeyfileError, Password};

/// Fixed for all files: wire spec section 9.3.
const SALT: [u8; 16] = *b"\x13\x71\x83\xdf\xf1\x5a\x09\xbc\x9c\x90\xb5\x51\x87\x39\xe9\xb1";
const KIB: u32 = 512 * 1024;
const PASSES: u32 = 8;

/// Held by whoever derives.
static TURN: Mutex<()> = Mutex::new(());

/// The key of a `$NACL` file.
pub(super) fn argon2i(password: &Password) -> Result<Zeroizing<[u8; 32]>, KeyfileError> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let short = |reason: String| KeyfileError::Memory { reason };
    if let Some(free) = free_bytes().filter(|free| *free < u64::from(KIB) * 1024) {
        return Err(short(format!(
            "only {} MiB are free here; end something else, or give the process more",
            free / 1024 / 1024
        )));
    }
    let params = Params::new(KIB, PASSES, 1, Some(32)).map_err(|e| short(e.to_string()))?;
    let count = params.block_count();
    let mut blocks = Vec::new();
    blocks.try_reserve_exact(count).map_err(|_| {
        short("the system did not give it; raise the process's limit (ulimit -v)".to_owned())
    })?;
    blocks.resize(count, Block::new());
    let mut key = Zeroizing::new([0; 32]);
    let derived = Argon2::new(Algorithm::Argon2i, Version::V0x13, params)
        .hash_password_into_with_memory(
            password.as_bytes(),
            &SALT,
            key.as_mut_slice(),
            blocks.as_mut_slice(),
        );
    blocks.iter_mut().for_each(|block| block.zeroize());
    derived.map_err(|e| short(e.to_string()))?;
    Ok(key)
}

/// PBKDF2-HMAC-SHA256 to `N` bytes.
pub(super) fn pbkdf2<const N: usize>(
    password: &Password,
    salt: &[u8],
    rounds: u32,
) -> Zeroizing<[u8; N]> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut key = Zeroizing::new([0; N]);
    pbkdf2::pbkdf2_hmac::<sha2::Sha256>(password.as_bytes(), salt, rounds, key.as_mut_slice());
    key
}

/// What the machine, and the group of processes that this one is in, have left. `None` where the
/// system does not say.
fn free_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024;
    Some(group_free_bytes().map_or(machine, |group| group.min(machine)))
}

/// What the limit of the control group (a container, a unit's `MemoryMax`) leaves.
fn group_free_bytes() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = std::path::Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/'));
    let number = |name: &str| -> Option<u64> {
        std::fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
    };
    let reclaimable = std::fs::read_to_string(folder.join("memory.stat")).ok().and_then(|text| {
        text.lines().find_map(|l| l.strip_prefix("inactive_file "))?.parse::<u64>().ok()
    });
    let used = number("memory.current")?.saturating_sub(reclaimable.unwrap_or(0));
    Some(number("memory.max")?.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_give_the_keys_of_the_other_tools() {
        // Wire spec section 9.3.
        for (password, key) in [
            (
                "correct horse battery",
                "a5aa17eedc6b5cd29fb66d4f7d05260f846d4046bf2a54c5009ceae23bbd0473",
            ),
            ("päss wörd €", "24389fa3036903d602b78434c1de5066d7f28ec23e485bd4d4edc801e9cd58ce"),
        ] {
            let password = Password::new(password).unwrap();
            assert_eq!(hex::encode(*argon2i(&password).unwrap()), key);
        }
    }
}
