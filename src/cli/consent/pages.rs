//! Serves the consent pages in this process, on loopback, if no gateway runs: the provider redirects the
//! browser to them. They are served until the one consent has ended.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure};
use crate::cli::settings::Global;
use keyward_api as admin;
use keyward_api::wire::ConsentView;

/// How long a redirected browser may take to fetch the last page.
const LAST_PAGE_WITHIN: Duration = Duration::from_secs(1);

/// The served pages.
pub(super) struct ConsentPages {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Serves the pages if this process answers itself and a browser is used.
///
/// # Errors
/// When redirect URIs do not lead to this machine, or the port is in use.
pub(super) async fn host(
    global: &Global,
    client: &Client,
    consent: &ConsentView,
) -> Result<Option<ConsentPages>, Failure> {
    let (Some(own), Some(_)) = (client.own_admin(), &consent.authorize_url) else {
        return Ok(None);
    };
    let config = global.load()?;
    if !config.listen.admin.ip().is_loopback() || config.public_url.starts_with("https://") {
        let message = "no gateway runs, and the redirect URI names another machine than this one";
        let hint = format!("start one: {} serve", global.keyward());
        return Err(Failure::new(Exit::Unreachable, message).hint(hint));
    }
    let listeners = keyward_app::localhost::bind_admin(&config).await.map_err(|error| {
        Failure::failed("cannot receive the redirect", &error)
            .hint(format!("start a gateway: {} serve", global.keyward()))
    })?;
    let names = keyward_app::own_names(&config, config.listen.admin);
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(admin::serve_tcp(listeners, own.clone(), names, stopped));
    Ok(Some(ConsentPages { stop, task }))
}

impl ConsentPages {
    /// Ends after running requests.
    pub(super) async fn finish(mut self) {
        tokio::time::sleep(LAST_PAGE_WITHIN).await;
        self.stop.send_replace(true);
        drop((&mut self.task).await);
    }
}

impl Drop for ConsentPages {
    fn drop(&mut self) {
        self.task.abort();
    }
}
