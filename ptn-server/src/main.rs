//! The `ptn-server` command; everything is in the library.

fn main() -> std::process::ExitCode {
    ptn_server::cli::main(std::env::args_os())
}
