//! The consent flow of the command line: opens the page or shows the code, waits, and asks whether to accept
//! another account. If no gateway runs, this process serves the consent pages itself, on loopback. The browser is
//! opened on a private file that redirects to the consent page: other processes could read a start link on its
//! command line.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::client::{Client, segment};
use super::failure::{Exit, Failure};
use super::output;
use super::settings::Global;
use super::terminal::{self, secret, wait};
use crate::cli::harden;
use crate::cli::run::child::withhold_own;
use keyward_api::serve_network;
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
    let pages = host_pages(global, client, consent).await?;
    let _page = show(global, consent, how)?;
    let ended = Box::pin(client.until_landed(ended(client, &consent.flow)));
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
) -> Result<Option<RedirectFile>, Failure> {
    if let (Some(code), Some(uri)) = (&consent.user_code, &consent.verification_uri) {
        output::note(&format!("enter the code  {code}\nat              {uri}"));
        if let Some(whole) = &consent.verification_uri_complete {
            output::note(&format!("or open         {whole}"));
        }
        return Ok(None);
    }
    let Some(url) = &consent.authorize_url else { return Ok(None) };
    output::note(&format!("open this page in your browser and consent:\n  {url}"));
    if !how.no_browser && io::stderr().is_terminal() { open_page(global, url) } else { Ok(None) }
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

/// How long a redirected browser may take to fetch the last page.
const LAST_PAGE_WITHIN: Duration = Duration::from_secs(1);

/// The served pages.
struct ConsentPages {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Serves the pages if this process answers itself and a browser is used.
///
/// # Errors
/// When redirect URIs do not lead to this machine, or the port is in use.
async fn host_pages(
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
    let router = keyward_console::open_router(own, names);
    let task = tokio::spawn(serve_network(listeners, None, own.clone(), router, stopped));
    Ok(Some(ConsentPages { stop, task }))
}

impl ConsentPages {
    /// Ends after running requests.
    async fn finish(mut self) {
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

/// A file that redirects to the page; removed when dropped.
struct RedirectFile(PathBuf);

impl Drop for RedirectFile {
    fn drop(&mut self) {
        // If it stays, its link was used or has expired.
        drop(std::fs::remove_file(&self.0));
    }
}

/// Opens the user's browser, if there is one; the address was printed as well.
///
/// # Errors
/// When the data directory cannot be found.
fn open_page(global: &Global, url: &str) -> Result<Option<RedirectFile>, Failure> {
    let browsers = browsers(&std::env::var("BROWSER").unwrap_or_default());
    if browsers.is_empty() {
        return Ok(None);
    }
    let file = global.data_dir()?.join(format!("consent-{}.html", std::process::id()));
    if write(&file, url).is_err() {
        return Ok(None);
    }
    let page = RedirectFile(file);
    let starts = |browser: &String| start(&words(browser, &page.0)).is_ok();
    Ok(browsers.iter().any(starts).then_some(page))
}

/// Starts a browser, which may outlive this command: it has the umask of its user and no secret of Keyward, and Ctrl-C at
/// this command does not end it.
fn start(words: &[OsString]) -> std::io::Result<()> {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    withhold_own(&mut command);
    command.process_group(0);
    harden::with_umask_of_user(|| command.spawn()).map(drop)
}

/// The commands of `$BROWSER`, which are tried in order, else the desktop's; none without a display.
fn browsers(named: &str) -> Vec<String> {
    let named = named.split(':').map(str::trim).filter(|command| !command.is_empty());
    let named: Vec<String> = named.map(str::to_owned).collect();
    if !named.is_empty() {
        return named;
    }
    let screen = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    match (cfg!(target_os = "macos"), screen) {
        (true, _) => vec!["open".to_owned()],
        (false, true) => vec!["xdg-open".to_owned()],
        (false, false) => Vec::new(),
    }
}

/// A command and its arguments. `%s` is the page, which is otherwise the last argument.
fn words(browser: &str, page: &Path) -> Vec<OsString> {
    let words: Vec<&str> = match Path::new(browser).is_file() {
        // The path of a program may have blanks.
        true => vec![browser],
        false => browser.split_whitespace().collect(),
    };
    let path = page.to_string_lossy();
    let mut words: Vec<_> =
        words.into_iter().map(|word| OsString::from(word.replace("%s", &path))).collect();
    if !browser.contains("%s") {
        words.push(page.into());
    }
    words
}

fn write(file: &Path, url: &str) -> std::io::Result<()> {
    // The link is safe in HTML: base64url, and the configured address, which was checked.
    let text = format!(
        "<!doctype html><meta charset=\"utf-8\"><meta name=\"referrer\" content=\"no-referrer\">\
         <meta http-equiv=\"refresh\" content=\"0;url={url}\"><a href=\"{url}\">Go on</a>"
    );
    drop(std::fs::remove_file(file));
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    opened.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn browsers_are_tried_in_order_with_their_arguments() {
        assert_eq!(browsers("w3m: :firefox --new-window:"), ["w3m", "firefox --new-window"]);
        for (browser, expected) in [
            ("w3m", &["w3m", "/p.html"][..]),
            ("firefox --new-window", &["firefox", "--new-window", "/p.html"]),
            ("a --url=%s b", &["a", "--url=/p.html", "b"]),
        ] {
            assert_eq!(words(browser, Path::new("/p.html")), expected, "{browser}");
        }
    }

    #[test]
    fn the_redirect_file_is_readable_only_by_its_owner_and_removed_on_drop() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("consent.html");
        std::fs::write(&file, "older").unwrap();
        write(&file, "http://localhost:8081/oauth/start/abc").unwrap();
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(std::fs::read_to_string(&file).unwrap().contains("url=http://localhost:8081/"));
        drop(RedirectFile(file.clone()));
        assert!(!file.exists());
    }
}
