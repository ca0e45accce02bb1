//! The `keyward` program. Everything is in the library.

fn main() -> std::process::ExitCode {
    keyward::cli::run()
}
