//! The `ptn-server` binary; everything is in the library.
fn main() -> std::process::ExitCode {
    ptn_server::cli::main()
}
