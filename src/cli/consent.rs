//! The consent flow of the command line: opens the page or shows the code, waits, and asks whether to accept
//! another account. If no gateway runs, this process receives the redirect itself, on loopback.

mod page;
mod pages;

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use super::client::{Client, segment};
use super::failure::{Exit, Failure};
use super::output;
use super::secret;
use super::settings::Global;
use super::terminal;
use super::wait;
use keyward_api::wire::{ConnectionCreated, ConsentView, FlowDecision};
use keyward_base::id::FlowId;
use keyward_model::{Connection, Shown};
use keyward_state::directory::ConnectionState;
use keyward_vault::oauth::{FlowState, FlowView};

/// Interval between two requests for the state of a consent.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// How long to wait for a gateway that does not answer.
const BACK_WITHIN: Duration = Duration::from_secs(120);

/// The remedy if the gateway does not come back.
const AWAY: &str =
    "start the gateway, which continues the consent; then run `keyward connection list`";

/// Options of a consent.
#[derive(Clone, Debug, Default, clap::Args)]
pub(in crate::cli) struct ConsentOptions {
    /// print the URL of the consent page instead of opening a browser
    #[arg(long)]
    pub(in crate::cli) no_browser: bool,
    /// use the device flow: enter a code on another device, if the provider supports it
    #[arg(long)]
    pub(in crate::cli) device: bool,
    /// accept a different account than the connection had, without asking
    #[arg(long)]
    pub(in crate::cli) accept_account: bool,
}

/// Waits until the user has consented. Returns whether the access will expire.
///
/// # Errors
/// When the consent ended without a grant.
pub(in crate::cli) async fn follow(
    global: &Global,
    client: &Client,
    made: &ConnectionCreated,
    how: &ConsentOptions,
) -> Result<bool, Failure> {
    let Some(consent) = &made.consent else { return Ok(false) };
    // Bound before the browser is sent to the provider.
    let pages = pages::host(global, client, consent).await?;
    let _page = show(global, consent, how)?;
    let ended = client.until_landed(ended(client, &consent.flow));
    let waited = wait::during("waiting for the consent", ended).await;
    let outcome = match waited? {
        FlowState::Confirm { before, account } => {
            let accept = accepts(how, &before, account.as_deref())?;
            let path = format!("/api/v1/flows/{}/confirm", segment(consent.flow.as_str()));
            let view: FlowView = client.post(&path, &FlowDecision { accept }).await?;
            view.state
        }
        outcome => outcome,
    };
    // The browser still fetches the page with the result.
    if let Some(pages) = pages {
        pages.finish().await;
    }
    match outcome {
        FlowState::Connected { ends } => Ok(ends),
        FlowState::Failed { why } => {
            let failure = Failure::new(Exit::Failed, why);
            Err(match remedy(global, client, made).await {
                Some(remedy) => failure.hint(remedy),
                None => failure,
            })
        }
        FlowState::Open | FlowState::Confirm { .. } | FlowState::Held { .. } => {
            Err(Failure::new(Exit::Failed, "the consent was not completed"))
        }
    }
}

/// The remedy after a failed consent, from the connection's current state; `None` if it was removed or cannot be
/// read. What broke the connection before does not explain the failure of the consent.
async fn remedy(global: &Global, client: &Client, made: &ConnectionCreated) -> Option<String> {
    let path = format!("/api/v1/connections/{}", segment(made.connection.id.as_str()));
    let now: Shown<Connection> = client.get(&path).await.ok()?;
    let remedy = match now.facts.state {
        ConnectionState::Broken { .. } => {
            format!("consent again: `keyward connection reconnect {}`", now.name)
        }
        // A usable connection needs no remedy.
        _ => {
            now.facts.remedy.clone().unwrap_or_else(|| "the old credential stays in use".to_owned())
        }
    };
    Some(global.remedy(&remedy))
}

/// Prints the instructions. The returned value must live as long as the browser may need it.
fn show(
    global: &Global,
    consent: &ConsentView,
    how: &ConsentOptions,
) -> Result<Option<page::RedirectFile>, Failure> {
    if let (Some(code), Some(uri)) = (&consent.user_code, &consent.verification_uri) {
        output::note(&format!("enter the code  {code}\nat              {uri}"));
        if let Some(whole) = &consent.verification_uri_complete {
            output::note(&format!("or open         {whole}"));
        }
        return Ok(None);
    }
    let Some(url) = &consent.authorize_url else { return Ok(None) };
    output::note(&format!("open this page in your browser and consent:\n  {url}"));
    if !how.no_browser && io::stderr().is_terminal() { page::open(global, url) } else { Ok(None) }
}

/// Waits for the result of the consent, also over a restart of the gateway.
async fn ended(client: &Client, flow: &FlowId) -> Result<FlowState, Failure> {
    let path = format!("/api/v1/flows/{}", segment(flow.as_str()));
    let mut away: Option<Instant> = None;
    loop {
        match client.get::<FlowView>(&path).await {
            Ok(FlowView { state: FlowState::Open, .. }) => away = None,
            Ok(view) => return Ok(view.state),
            Err(failure) if failure.exit() == Exit::Unreachable => {
                if away.is_none() {
                    output::note("note: the gateway does not answer; waiting until it is back");
                }
                if away.get_or_insert_with(Instant::now).elapsed() > BACK_WITHIN {
                    return Err(failure.hint(AWAY));
                }
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Asks whether to accept the other account.
fn accepts(how: &ConsentOptions, before: &str, account: Option<&str>) -> Result<bool, Failure> {
    output::note(&match account {
        Some(account) => {
            format!("you consented with account {account}; until now this connection used {before}")
        }
        None => format!(
            "the provider does not say which account you consented with; until now this connection \
             used {before}"
        ),
    });
    if how.accept_account {
        return Ok(true);
    }
    if !secret::can_ask() {
        output::note(
            "there is no terminal to ask on: the old account stays; --accept-account accepts the new one",
        );
        return Ok(false);
    }
    let ways = ["keep the old account", "use the new account"].map(str::to_owned);
    Ok(terminal::choose("now", &ways)? == 1)
}
