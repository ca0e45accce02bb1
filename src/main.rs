//! The `keyward` program. Everything is in the library.

/// Packs open tunnels tighter than the system's allocator, and releases the memory of ended ones (decision 85).
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: keyward_base::Allocator = keyward_base::Allocator;

fn main() -> std::process::ExitCode {
    keyward::cli::run()
}
