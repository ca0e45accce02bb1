//! `keyward serve`: reads the configuration and runs the gateway until it is told to stop.

use super::failure::Failure;
use super::output;
use super::settings::Global;
use crate::app;
use crate::observe::log;

/// Threads of the control plane and of background work; the data path has its own.
const WORKERS: usize = 2;

/// Runs the gateway.
pub(crate) fn run(global: &Global) -> Result<(), Failure> {
    let config = global.load()?;
    log::init(config.log.format, config.log.level, output::wants_colours());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("cannot start", &error))?;
    Ok(runtime.block_on(Box::pin(app::serve(config)))?)
}
