//! Limits of a gateway: those that replicas share, and those of the data path, adapted to the number of files that
//! the process may open.

use std::sync::Arc;

use rustix::process::{Resource, getrlimit};

use keyward_base::limits::Limits;
use keyward_proxy::SharedLimits;
use keyward_state::directory::Directory;

/// Descriptors reserved for the rest of the process: admin streams, store, audit log, listeners and
/// runtimes.
const BESIDE: usize = 640;

/// Descriptors of a stream: its own, and its upstream's.
const PER_STREAM: usize = 2;

/// The part of them that idle streams to upstreams may use.
const IDLE_SHARE: usize = 8;

/// The number of processors that the process may use.
pub(super) fn core_count() -> usize {
    keyward_base::threads::cores()
}

/// The number of files that the process may open.
pub(super) fn open_files() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// The number of descriptors for streams of both sides.
pub(super) fn for_streams(open_files: usize) -> usize {
    open_files - BESIDE.min(open_files / 3)
}

/// The limits for so many descriptors on so many cores: as configured, or lower. Unauthenticated streams
/// never use all of them.
pub(super) fn within(limits: &Limits, descriptors: usize, cores: usize) -> Limits {
    let streams_max = limits.streams_max.min(descriptors / PER_STREAM).max(1);
    let unauthenticated = limits.unauthenticated_streams_max.min(streams_max.div_ceil(2));
    let idle = descriptors / IDLE_SHARE / cores.max(1);
    Limits {
        streams_max,
        unauthenticated_streams_max: unauthenticated,
        idle_upstreams_max: limits.idle_upstreams_max.min(idle),
        ..limits.clone()
    }
}

/// The limits of a gateway, which replicas share.
pub(super) fn limits(directory: &Directory) -> anyhow::Result<Arc<SharedLimits>> {
    let key = directory.shared_key("limits");
    let limits = SharedLimits::new(key.as_deref());
    limits.map_err(|_| anyhow::anyhow!("the system has no randomness"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_file_descriptors_leave_the_configured_limits_unchanged() {
        let limits = Limits::default();
        for open_files in [1 << 20, usize::MAX] {
            assert_eq!(within(&limits, for_streams(open_files), 8), limits, "{open_files}");
        }
    }

    #[test]
    fn few_file_descriptors_lower_the_limits_of_streams() {
        let limits = Limits::default();
        for (open_files, streams, newcomers, idle) in
            [(1_500, 500, 250, 62), (400, 133, 67, 16), (4, 1, 1, 0)]
        {
            let found = within(&limits, for_streams(open_files), 2);
            let found =
                (found.streams_max, found.unauthenticated_streams_max, found.idle_upstreams_max);
            assert_eq!(found, (streams, newcomers, idle), "{open_files}");
        }
    }
}
