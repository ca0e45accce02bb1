//! The `keyward` program. Everything is in the library.

/// Packs open tunnels tighter than the system's allocator and gives the memory of ended ones back:
/// figures in `docs/internals/performance.md`.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: keyward_base::Allocator = keyward_base::Allocator;

fn main() -> std::process::ExitCode {
    keyward::cli::run()
}
