//! OAuth without an app, at a terminal: the app is registered, a declined consent loses nothing, and the next
//! one connects.

use std::net::SocketAddr;

use super::walks::screen;
use test_support::authorization::{Authorization, CLIENT, CLIENT_SECRET, Rules, query};
use test_support::browser::Browser;
use test_support::canary::Canary;
use test_support::install::Install;
use test_support::oauth::provider;
use test_support::pty::Terminal;
use test_support::{Origin, Plan};

struct Desk {
    install: Install,
    server: Authorization,
    admin: SocketAddr,
    _origin: Origin,
}

impl Desk {
    async fn new() -> Self {
        let server = Authorization::with(Rules::default()).await;
        let issuer = server.issuer().clone();
        let origin = Origin::answering(move |request| issuer.api(request, "fine"));
        let admin = test_support::process::reserved_address();
        let provider = provider(", app_url: \"https://auth.acme.test/apps\"");
        let plan = server.reached(Plan::api_key().hosts("other.acme.test")).provider(&provider);
        let install = Install::new(&plan.admin(&admin.to_string()), &origin);
        Self { install, server, admin, _origin: origin }
    }

    fn walk(&self, arguments: &[&str]) -> Terminal {
        let mut command = self.install.keyward(&["connect", "svc", "--no-browser"]);
        command.args(arguments).env("TERM", "xterm");
        Terminal::start(command)
    }

    /// Answers the consent that the screen asks for; returns the redirect URI that the server was asked with.
    async fn answers(&self, walk: &mut Terminal, consents: bool) -> String {
        let issuer = self.server.issuer();
        self.comes_back(walk, |url| match consents {
            true => issuer.consent(url),
            false => issuer.decline(url),
        })
        .await
    }

    /// The same, with the address at which the browser comes back.
    async fn comes_back(&self, walk: &mut Terminal, back: impl Fn(&str) -> String) -> String {
        let link = walk.rest_of("and consent:\r\n  ");
        let mut browser = Browser::at(self.admin);
        let url = browser.begin(&link).await;
        let back = back(&url);
        let page = browser.get(&back).await;
        if page.head.status() == 303 {
            let done = page.head.one("location").expect("a page").replace("..", "/oauth");
            browser.get(&done).await;
        }
        back.split('?').next().expect("a URI").to_owned()
    }
}

fn registers(walk: &mut Terminal) -> String {
    walk.shows("register this redirect URI, exactly as it is:");
    walk.shows("\r\n");
    let uri = walk.rest_of("   ");
    walk.asks("client id: ", &format!("{CLIENT}\r"));
    walk.shows("client secret (not shown): ");
    assert!(!walk.echoes());
    walk.types(&format!("{CLIENT_SECRET}\r"));
    uri
}

fn ended(desk: &Desk, walk: Terminal) -> (Option<i32>, String) {
    let (code, shown) = walk.ends();
    let secret = Canary::of(CLIENT_SECRET.to_owned());
    secret.assert_absent("the terminal", shown.as_bytes());
    secret.assert_absent_below(desk.install.folder());
    (code, screen(&shown))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connecting_without_an_app_registers_one_and_consents_in_the_same_walk() {
    let desk = Desk::new().await;
    let mut walk = desk.walk(&[]);
    walk.asks("name of the connection [svc]: ", "work\r");
    let shown = registers(&mut walk);
    let asked = desk.answers(&mut walk, false).await;
    assert_eq!(asked, shown, "what was registered is what the server is asked with");
    walk.asks("> open the consent page again", "\r");
    assert_eq!(desk.answers(&mut walk, true).await, shown);
    walk.shows("run -- ");
    let (code, screen) = ended(&desk, walk);
    assert_eq!(code, Some(0), "{screen}");
    insta::assert_snapshot!("walk_oauth_without_an_app", screen);
    assert_eq!(desk.install.json(&["app", "show", "svc"])["redirect_uri"], shown);
    assert_eq!(desk.install.json(&["connection", "show", "work"])["state"], "active");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declined_consent_keeps_the_app_and_names_the_command_that_continues() {
    let desk = Desk::new().await;
    let mut walk = desk.walk(&["--name", "work"]);
    registers(&mut walk);
    desk.answers(&mut walk, false).await;
    walk.shows("the app is kept; to continue: ");
    walk.shows("connect svc --name work --app svc");
    walk.asks("> open the consent page again", "\u{1b}[B\r");
    let (code, screen) = ended(&desk, walk);
    assert_eq!(code, Some(130), "{screen}");
    assert!(!screen.contains("reconnect"), "what is gone is not named: {screen}");
    assert_eq!(desk.install.json(&["connection", "list"])["items"], serde_json::json!([]));
    // The command that was named asks for nothing but the consent.
    let mut walk = desk.walk(&["--name", "work", "--app", "svc"]);
    desk.answers(&mut walk, true).await;
    walk.shows("run -- ");
    let (code, screen) = ended(&desk, walk);
    assert_eq!(code, Some(0), "{screen}");
    assert!(!screen.contains("client id"), "{screen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_comes_back_without_state_ends_the_wait_with_the_reason() {
    let desk = Desk::new().await;
    let mut walk = desk.walk(&["--name", "work"]);
    registers(&mut walk);
    let without_state = |url: &str| format!("{}?error=server_error", query(url)["redirect_uri"]);
    desk.comes_back(&mut walk, without_state).await;
    walk.shows("the provider cannot process consents at present: try again later");
    walk.asks("> open the consent page again", "\u{1b}[B\r");
    let (code, screen) = ended(&desk, walk);
    assert_eq!(code, Some(130), "{screen}");
}
