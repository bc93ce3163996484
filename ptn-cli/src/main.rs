//! The `ptn-cli` binary; everything is in the library.

fn main() -> std::process::ExitCode {
    ptn_core::ops::process::no_core_files();
    let mut out = ptn_cli::output::Output::stdio();
    std::process::ExitCode::from(ptn_cli::run(std::env::args_os(), &mut out))
}
