//! Consents from the command line: with a gateway, and without one, when the command takes the browser back
//! itself.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use keyward_app::config::Config;
use keyward_app::{Opening, Services};

use test_support::authorization::{Authorization, CLIENT, CLIENT_SECRET, Fault, Rules};
use test_support::browser::Browser;
use test_support::canary::Canary;
use test_support::install::Install;
use test_support::oauth::{app_in, provider};
use test_support::pty::Terminal;
use test_support::{Origin, Plan, until};

/// An install with an app, a server, and the address that browsers come to.
struct World {
    install: Install,
    server: Authorization,
    admin: SocketAddr,
    origin: Origin,
}

/// A command that waits for a person.
struct Waiting {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl World {
    async fn with(rules: Rules) -> Self {
        Self::of(rules, &provider("")).await
    }

    async fn of(rules: Rules, provider: &str) -> Self {
        let server = Authorization::with(rules).await;
        let issuer = server.issuer().clone();
        let origin = Origin::answering(move |request| issuer.api(request, "fine"));
        let admin = test_support::process::reserved_address();
        let plan = server.reached(Plan::api_key().hosts("other.acme.test")).provider(provider);
        let plan = plan.admin(&admin.to_string());
        let install = Install::new(&plan, &origin);
        let file = install.folder().join("keyward.yaml");
        let data = install.data().display().to_string();
        let variables = BTreeMap::from([("KEYWARD_DATA".to_owned(), data)]);
        let config = Config::parse(&plan.yaml(&origin), &file, &variables);
        let config = config.expect("it is right");
        let services = Services::open(&config, Opening::Make).await.expect("services");
        app_in(&services.vault, "svc-app", (CLIENT, CLIENT_SECRET)).await;
        Self { install, server, admin, origin }
    }

    fn begin(&self, arguments: &[&str]) -> Waiting {
        let mut command = self.install.keyward(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary was built");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        Waiting { child, stderr }
    }

    /// What a command says.
    fn said(&self, arguments: &[&str]) -> String {
        let output = self.install.keyward(arguments).output().expect("it runs");
        let both = [&*output.stdout, &*output.stderr].concat();
        String::from_utf8_lossy(&both).into_owned()
    }

    async fn consents(&self, waiting: &mut Waiting) {
        let link = waiting.line_with("/oauth/start/");
        let mut browser = Browser::at(self.admin);
        let url = browser.begin(link.trim()).await;
        let back = browser.get(&self.server.issuer().consent(&url)).await.is(303);
        let done = back.head.one("location").expect("a page").replace("..", "/oauth");
        assert!(browser.get(&done).await.text().contains("Connected"));
    }
}

impl Waiting {
    /// The next line of what it says to the person that has `text` in it.
    fn line_with(&mut self, text: &str) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            let read = self.stderr.read_line(&mut line).expect("text");
            all.push_str(&line);
            assert!(read > 0, "no `{text}` in: {all}");
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Ends it as Ctrl-C does.
    fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("it runs");
    }

    fn ended(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.stderr, &mut rest).expect("text");
        let output = self.child.wait_with_output().expect("our child");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &rest;
        (output.status.code(), text)
    }
}

const ADD: &[&str] = &["connection", "add", "svc", "--name", "work", "--no-browser"];

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_has_the_umask_of_its_user_no_secret_of_keyward_and_its_own_process_group() {
    let world = World::with(Rules::default()).await;
    let folder = world.install.folder();
    let browser = folder.join("browser");
    let script = "#!/bin/sh
        { umask; echo \"$KEYWARD_BACKUP_PASSPHRASE$KEYWARD__LOG__LEVEL.\"; echo \"$MINE\"
          echo $$; cut -d' ' -f5 /proc/$$/stat; cat \"$1\"; } > made; mv made opened\n";
    std::fs::write(&browser, script).expect("a file");
    std::fs::set_permissions(&browser, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let mut command = world.install.keyward(&["connection", "add", "svc", "--name", "work"]);
    command.env("BROWSER", &browser).env("MINE", "stays").current_dir(folder);
    command.env("KEYWARD_BACKUP_PASSPHRASE", "of a backup").env("KEYWARD__LOG__LEVEL", "info");
    let _terminal = Terminal::start(command);
    let opened = || std::fs::read_to_string(folder.join("opened")).unwrap_or_default();
    until("the browser", async || !opened().is_empty()).await;
    let opened = opened();
    let lines: Vec<_> = opened.lines().collect();
    let own = std::process::Command::new("sh").args(["-c", "umask"]).output().expect("sh");
    assert_eq!(lines[0], String::from_utf8_lossy(&own.stdout).trim());
    assert_eq!(lines[1..3], [".", "stays"]);
    assert_eq!(lines[3], lines[4], "it leads its process group");
    assert!(lines[5].contains("/oauth/start/"), "{opened}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_gateway_the_command_receives_the_callback() {
    let world = World::with(Rules::default()).await;
    let mut waiting = world.begin(ADD);
    world.consents(&mut waiting).await;
    let (code, said) = waiting.ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("connection work added") && said.contains("alice@acme.test"), "{said}");
    assert!(world.said(&["connection", "show", "work"]).contains("active"));
    for call in world.server.calls() {
        let pair = call.issued.expect("tokens");
        Canary::of(pair.access).assert_absent_below(world.install.folder());
        assert!(!said.contains(&pair.refresh.expect("one")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_gateway_the_gateway_receives_the_callback() {
    let world = World::with(Rules::default()).await;
    let _serving = world.install.serve();
    let mut waiting = world.begin(ADD);
    world.consents(&mut waiting).await;
    let (code, said) = waiting.ended();
    assert_eq!(code, Some(0), "{said}");
    // Another account, and nobody who can be asked.
    world.server.issuer().change(|rules| rules.account = "bob@acme.test".to_owned());
    for (more, account) in [(&[][..], "alice@acme.test"), (&["--accept-account"], "bob@acme.test")]
    {
        let again = ["connection", "reconnect", "work", "--no-browser"];
        let mut waiting = world.begin(&[&again, more].concat());
        let link = waiting.line_with("/oauth/start/");
        let mut browser = Browser::at(world.admin);
        let url = browser.begin(link.trim()).await;
        browser.get(&world.server.issuer().consent(&url)).await;
        let (code, said) = waiting.ended();
        assert!(said.contains("alice@acme.test") && said.contains("bob@acme.test"), "{said}");
        assert_eq!(code == Some(0), account == "bob@acme.test", "{said}");
        assert!(world.said(&["connection", "show", "work"]).contains(account));
    }
    let gone = world.said(&["connection", "remove", "work", "--revoke"]);
    assert!(gone.contains("the access is revoked at the provider"), "{gone}");
    // Both tokens of the account that was declined, and of the one that is removed.
    assert_eq!(world.server.issuer().revoked().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_code_is_shown_and_the_command_waits_for_the_consent() {
    let connect = &["connect", "svc", "--name", "work", "--no-test", "--no-browser"][..];
    for command in [ADD, connect] {
        let world = World::with(Rules { interval: Some(0.05), ..Rules::default() }).await;
        let mut waiting = world.begin(&[command, &["--device"]].concat());
        let line = waiting.line_with("enter the code");
        let code = line.trim().rsplit(' ').next().expect("a code").to_owned();
        assert!(waiting.line_with("at  ").contains("https://auth.acme.test/activate"));
        world.server.issuer().decide(&code, true);
        let (status, said) = waiting.ended();
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("connection work added"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_consent_fails_and_leaves_a_draft_that_says_why() {
    let world = World::with(Rules::default()).await;
    let mut waiting = world.begin(ADD);
    let link = waiting.line_with("/oauth/start/");
    let mut browser = Browser::at(world.admin);
    let url = browser.begin(link.trim()).await;
    browser.get(&world.server.issuer().decline(&url)).await;
    let (code, said) = waiting.ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("declined") && said.contains("connection reconnect work"), "{said}");
    assert!(world.said(&["connection", "list"]).contains("draft: the consent was declined"));
}

/// The hint was to correct the app, whose rejection had broken the connection before.
#[tokio::test(flavor = "multi_thread")]
async fn a_declined_reconnect_of_a_broken_connection_names_no_remedy_for_its_earlier_failure() {
    let world = World::with(Rules::default()).await;
    let mut waiting = world.begin(ADD);
    world.consents(&mut waiting).await;
    waiting.ended();
    world.server.fail_next(Fault::error(401, "invalid_client"));
    let broken = world.said(&["connection", "refresh", "work"]);
    assert!(broken.contains("client id and secret of app"), "{broken}");
    let mut waiting = world.begin(&["connection", "reconnect", "work", "--no-browser"]);
    let link = waiting.line_with("/oauth/start/");
    let mut browser = Browser::at(world.admin);
    let url = browser.begin(link.trim()).await;
    browser.get(&world.server.issuer().decline(&url)).await;
    let (code, said) = waiting.ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("declined") && said.contains("connection reconnect work"), "{said}");
    assert!(!said.contains("client id and secret"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_exist_are_imported_without_a_consent() {
    let world = World::with(Rules::default()).await;
    let pair = world.server.issuer().issue();
    let file = world.install.folder().join("credentials.json");
    let text = serde_json::json!({ "type": "authorized_user", "refresh_token": pair.refresh });
    std::fs::write(&file, text.to_string()).expect("a file");
    let path = file.display().to_string();
    let said = world.said(&["connection", "add", "svc", "--name", "work", "--import", &path]);
    assert!(said.contains("connection work added"), "{said}");
    assert!(world.said(&["connection", "show", "work"]).contains("active"));
    std::fs::remove_file(file).expect("it was there");
    Canary::of(pair.refresh.expect("one")).assert_absent_below(world.install.folder());
}

/// The provider would still accept the access token, so only its stored end keeps it from being sent.
#[tokio::test(flavor = "multi_thread")]
async fn an_imported_access_token_that_has_expired_is_renewed_before_it_is_used() {
    let world = World::with(Rules::default()).await;
    let pair = world.server.issuer().issue();
    let file = world.install.folder().join("credentials.json");
    let path = file.display().to_string();
    let add = ["connection", "add", "svc", "--name", "work", "--no-test", "--import", &path];
    let document = |expires: serde_json::Value| {
        let tokens = serde_json::json!({ "access_token": pair.access, "refresh_token": pair.refresh,
                                         "expires_at": expires });
        std::fs::write(&file, serde_json::json!({ "tokens": tokens }).to_string()).expect("a file");
    };
    document("next week".into());
    let refused = world.said(&add);
    assert!(refused.contains("`expires_at` is not a time"), "{refused}");
    document("2026-01-31T12:00:00Z".into());
    let said = world.said(&add);
    assert!(said.contains("connection work added"), "{said}");
    std::fs::remove_file(&file).expect("it was there");
    assert!(world.server.calls().is_empty());
    let answer = world.said(&["connection", "request", "work", "/me"]);
    assert!(answer.contains("fine"), "{answer}");
    let newer = world.server.only_call().issued.expect("tokens").access;
    assert_eq!(world.origin.only().head.one("authorization"), Some(&*format!("Bearer {newer}")));
}

/// oauth 8.9: also a command that refreshes by itself
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_command_without_a_gateway_stores_the_tokens_that_it_waits_for() {
    let world = World::with(Rules::default()).await;
    let pair = world.server.issuer().issue();
    let file = world.install.folder().join("credentials.json");
    let text = serde_json::json!({ "refresh_token": pair.refresh }).to_string();
    std::fs::write(&file, text).expect("a file");
    let path = file.display().to_string();
    world.said(&["connection", "add", "svc", "--name", "work", "--no-test", "--import", &path]);
    std::fs::remove_file(&file).expect("it was there");
    let gate = world.server.hold_next();
    let mut waiting = world.begin(&["connection", "refresh", "work"]);
    world.server.asked(1).await;
    waiting.interrupt();
    waiting.line_with("ending this command now would lose them");
    gate.add_permits(1);
    let (code, said) = waiting.ended();
    assert_eq!(code, Some(130), "{said}");
    let answer = world.said(&["connection", "request", "work", "/me"]);
    assert!(answer.contains("fine"), "{answer}");
    let newer = world.server.only_call().issued.expect("tokens").access;
    assert_eq!(world.origin.only().head.one("authorization"), Some(&*format!("Bearer {newer}")));
}

/// oauth 2.settled: the command received the callback itself
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_interrupted_while_it_redeems_a_code_connects_before_it_ends() {
    let world = World::with(Rules::default()).await;
    let mut waiting = world.begin(ADD);
    let link = waiting.line_with("/oauth/start/");
    let mut browser = Browser::at(world.admin);
    let url = browser.begin(link.trim()).await;
    let gate = world.server.hold_next();
    let back = world.server.issuer().consent(&url);
    let returned = tokio::spawn(async move { browser.get(&back).await });
    world.server.asked(1).await;
    waiting.interrupt();
    waiting.line_with("ending this command now would lose them");
    gate.add_permits(1);
    let (code, said) = waiting.ended();
    returned.abort();
    assert_eq!(code, Some(130), "{said}");
    let shown = world.said(&["connection", "show", "work"]);
    assert!(shown.contains("active") && shown.contains("alice@acme.test"), "{shown}");
    assert!(world.said(&["connection", "consents"]).contains("no consent is open"));
}

/// A gateway that restarts between, in order or by a crash, is no end of a consent.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_waits_for_a_consent_outlasts_restarts_of_the_gateway() {
    let world = World::with(Rules::default()).await;
    let mut serving = world.install.serve();
    let mut waiting = world.begin(ADD);
    let link = waiting.line_with("/oauth/start/");
    serving.signal(Signal::TERM);
    assert_eq!(serving.code(), Some(0));
    // It has seen that nobody is there.
    waiting.line_with("waiting until it is back");
    let mut serving = world.install.serve();
    let mut browser = Browser::at(world.admin);
    let url = browser.begin(link.trim()).await;
    serving.kill();
    let _serving = world.install.serve();
    browser.get(&world.server.issuer().consent(&url)).await.is(303);
    let (code, said) = waiting.ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("connection work added") && said.contains("alice@acme.test"), "{said}");
}

/// oauth 2.settled: `kill -9` while the code is exchanged
#[tokio::test(flavor = "multi_thread")]
async fn a_consent_fails_when_the_gateway_is_killed_while_it_redeems_the_code() {
    let world = World::with(Rules::default()).await;
    let mut serving = world.install.serve();
    let mut waiting = world.begin(ADD);
    let link = waiting.line_with("/oauth/start/");
    let mut browser = Browser::at(world.admin);
    let url = browser.begin(link.trim()).await;
    let gate = world.server.hold_next();
    let (back, mut other) = (world.server.issuer().consent(&url), browser.clone());
    let lost = tokio::spawn(async move { other.get(&back).await });
    world.server.asked(1).await;
    serving.kill();
    lost.abort();
    let _serving = world.install.serve();
    let (code, said) = waiting.ended();
    gate.add_permits(1);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the gateway stopped while the code was exchanged"), "{said}");
    let listed = world.said(&["connection", "list"]);
    assert!(listed.contains("draft: the gateway stopped while"), "{listed}");
    assert!(world.said(&["connection", "consents"]).contains("no consent is open"));
}

/// oauth 2.settled: `kill -9` after the tokens came, while the provider is asked whose they are
#[tokio::test(flavor = "multi_thread")]
async fn a_consent_continues_after_a_crash_with_the_tokens_received_before_it() {
    let silent = provider(", userinfo: \"https://auth.acme.test/userinfo\"");
    let silent = silent.replace(", account: account.id", "");
    let world = World::of(Rules::default(), &silent).await;
    let mut serving = world.install.serve();
    let mut waiting = world.begin(ADD);
    world.consents(&mut waiting).await;
    assert_eq!(waiting.ended().0, Some(0));
    let issuer = world.server.issuer();
    issuer.change(|rules| rules.account = "bob@acme.test".to_owned());
    // A head that never ends.
    issuer.script("/userinfo", "HTTP/1.1 200 OK\r\n");
    let mut waiting = world.begin(&["connection", "reconnect", "work", "--no-browser"]);
    let link = waiting.line_with("/oauth/start/");
    let mut browser = Browser::at(world.admin);
    let url = browser.begin(link.trim()).await;
    let back = issuer.consent(&url);
    let lost = tokio::spawn(async move { browser.get(&back).await });
    let asked = |server: &Authorization| {
        let all = server.origin.received();
        all.iter().filter(|request| request.head.target() == "/userinfo").count()
    };
    until("a question whose account it is", async || asked(&world.server) >= 2).await;
    serving.kill();
    lost.abort();
    issuer.unscript("/userinfo");
    let _serving = world.install.serve();
    let (code, said) = waiting.ended();
    assert_eq!(code, Some(1), "{said}");
    // The person is asked all the same; nobody can be here, which is a no.
    assert!(said.contains("you consented with account bob@acme.test"), "{said}");
    assert!(said.contains("the provider has revoked its access"), "{said}");
    let bobs = world.server.calls()[1].issued.clone().expect("tokens").access;
    assert!(!world.server.issuer().is_live(&bobs));
    assert!(world.said(&["connection", "show", "work"]).contains("alice@acme.test"));
}

#[tokio::test(flavor = "multi_thread")]
async fn open_consents_are_listed_and_cancelled_by_the_command_line() {
    let world = World::with(Rules::default()).await;
    let _serving = world.install.serve();
    let mut waiting = world.begin(ADD);
    waiting.line_with("/oauth/start/");
    let listed = world.said(&["connection", "consents"]);
    assert!(listed.contains("work") && listed.contains("a consent"), "{listed}");
    let id = listed.split_whitespace().find(|word| word.starts_with("flw_")).expect("an id");
    assert!(world.said(&["connection", "consents", "--connection", "work"]).contains(id));
    let said = world.said(&["connection", "consents", "cancel", id]);
    assert!(said.contains(&format!("consent {id}: it was cancelled")), "{said}");
    let (code, said) = waiting.ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("it was cancelled"), "{said}");
    assert!(world.said(&["connection", "consents"]).contains("no consent is open"));
}

/// The command names no connection that is gone, and no access that a removal has ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_consent_whose_connection_is_removed_meanwhile_fails_without_a_remedy_for_it() {
    let world = World::with(Rules::default()).await;
    let _serving = world.install.serve();
    let mut waiting = world.begin(ADD);
    waiting.line_with("/oauth/start/");
    world.said(&["connection", "remove", "work"]);
    let (code, said) = waiting.ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the connection was removed"), "{said}");
    assert!(!said.contains("hint:"), "{said}");
}
