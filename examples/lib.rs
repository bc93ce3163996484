//! The programs are the examples beside this file: `cargo run -p ptn-examples --example embed_engine`.
