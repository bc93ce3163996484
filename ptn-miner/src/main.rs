//! The `ptn-miner` command; everything is in the library.

fn main() -> std::process::ExitCode {
    ptn_miner::main(std::env::args_os())
}
