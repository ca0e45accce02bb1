//! `keyward import`: keys of a file of variables and of the AWS profiles become connections, and the file has placeholders.

mod repeated;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use serde_json::{Value, json};

use test_support::canary::Canary;
use test_support::install::Install;
use test_support::*;

const GITHUB: &str = "api.github.com";
const STRIPE: &str = "api.stripe.com";
/// Its keys have no known beginning.
const MISTRAL: &str = "api.mistral.ai";
/// Where a login of Codex is renewed.
const OPENAI: &str = "auth.openai.com";
/// What the service does not accept.
const REVOKED: &str = "sk_live_revokedREVOKEDrevokedREVOKEDrevokedREVOKED";

struct Desk {
    install: Install,
    origin: Origin,
    canary: Canary,
}

impl Desk {
    async fn new() -> Self {
        let names = [GITHUB, STRIPE, MISTRAL, OPENAI];
        let origin = Origin::answering_as(&names, |message| {
            match message.head.one("authorization").is_some_and(|it| it.contains(REVOKED)) {
                true => "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned(),
                false => ok(r#"{"login":"octocat"}"#),
            }
        });
        let plan = Plan::api_key().no_agents();
        let plan = names
            .iter()
            .fold(plan, |plan, name| plan.resolve(&format!("{name}: \"{}\"", origin.addr)));
        let install = Install::new(&plan, &origin);
        let canary = Canary::of(format!("ghp_{}", "caNARY123".repeat(4)));
        Self { install, origin, canary }
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.install.folder().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("a mode");
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.install.folder().join(name)).expect(name)
    }

    /// Its output has no key.
    fn runs(&self, arguments: &[&str]) -> Output {
        let output = self.install.keyward(arguments).output().expect("it runs");
        self.canary.assert_absent("standard output", &output.stdout);
        self.canary.assert_absent("standard error", &output.stderr);
        output
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.runs(&[arguments, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    fn names(&self, of: &str) -> Vec<String> {
        let list = self.json(&[of, "list"]);
        let items = list["items"].as_array().expect("a list").iter();
        items.filter_map(|it| it["name"].as_str()).map(str::to_owned).collect()
    }
}

fn dotenv(desk: &Desk) -> String {
    let key = &desk.canary.text;
    format!(
        "# keys\nGITHUB_TOKEN=\"{key}\" # of work\nPORT=8080\nexport STRIPE_API_KEY={REVOKED}\nMY_SECRET=unknown-value-1234\nDATABASE_URL=postgres://me:pw@db.test/app\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_import_and_a_dry_run_change_nothing() {
    let desk = Desk::new().await;
    let text = dotenv(&desk);
    for (arguments, says) in [
        (&["import"][..], "cannot read .env"),
        (&["import", "--dry-run"], "hint: sources: env, aws, "),
        (&["import", "nope"], "there is no source `nope`"),
        (&["import", "aws"], "cannot read"),
        (&["import", "gh"], "gh is not installed"),
        (&["import", "env", "aws"], "/.aws/credentials: No such file"),
        (&["import", "env", "aws"], "hint: omit `aws` to import from the others"),
        (&["import", "env", "gh"], "; or omit `gh` to import from the others"),
        (&["import", "env", "keys.env"], "hint: omit `keys.env` to import from the others"),
    ] {
        let output = desk.install.keyward(arguments).env("PATH", "").output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(says), "{arguments:?}: {said}");
    }
    desk.file(".env", &text);
    // Without a terminal and without `--yes`.
    let output = desk.runs(&["import"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--dry-run"), "{output:?}");
    let found = desk.json(&["import", "--dry-run"]);
    let names: Vec<_> =
        found["accounts"].as_array().expect("accounts").iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["github", "stripe"], "{found}");
    assert_eq!(found["accounts"][0]["places"], json!([".env:2 GITHUB_TOKEN"]));
    assert_eq!(found["skipped"][0]["place"], ".env:5 MY_SECRET", "{found}");
    let database = found["skipped"][1]["why"].as_str().expect("a reason");
    assert!(database.contains("keyward connection add postgres"), "{found}");
    assert_eq!(
        (desk.names("connection"), desk.names("agent")),
        (Vec::<String>::new(), Vec::<String>::new())
    );
    assert_eq!(desk.text(".env"), text);
    assert!(desk.origin.received().is_empty(), "nothing was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_become_connections_and_the_file_has_placeholders() {
    let desk = Desk::new().await;
    let text = dotenv(&desk);
    desk.file(".env", &text);
    let output = desk.runs(&["import", "--yes", "--agent", "ci"]);
    let (said, failed) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "one key is revoked: {said} {failed}");
    assert!(failed.contains("1 accounts were not connected"), "{failed}");
    assert!(said.contains("not connected: Stripe ") && !said.contains("error:"), "{said}");
    assert!(!(said.clone() + failed.clone()).contains("--no-test"), "{said} {failed}");
    assert!(!said.contains(REVOKED) && !failed.contains(REVOKED), "{said} {failed}");
    // The service saw both keys, each at its own host.
    for (host, key) in [(GITHUB, desk.canary.text.as_str()), (STRIPE, REVOKED)] {
        let sent = desk.origin.received();
        let to_host = sent.iter().find(|it| it.head.one("host") == Some(host)).expect(host);
        assert!(
            to_host.head.one("authorization").is_some_and(|it| it.contains(key)),
            "{to_host:?}"
        );
    }
    assert_eq!(desk.names("connection"), ["github"]);
    let shown = desk.json(&["agent", "show", "ci"]);
    let placeholder =
        shown["bindings"][0]["placeholders"]["token"].as_str().expect("a placeholder");
    assert_eq!(
        desk.text(".env"),
        text.replace(&desk.canary.text, placeholder),
        "the revoked key stays"
    );
    assert_eq!(desk.text(".keyward-backup/.env"), text);
    let mode = |name: &str| {
        let path = desk.install.folder().join(name);
        std::fs::metadata(path).expect(name).permissions().mode() & 0o777
    };
    assert_eq!((mode(".env"), mode(".keyward-backup/.env")), (0o640, 0o600));
    // Git does not see the folder with the keys.
    assert_eq!(desk.text(".keyward-backup/.gitignore"), "*\n");
    assert_eq!(mode(".keyward-backup"), 0o700);
    // Placeholders are not imported again, and a backup is not overwritten.
    let again = desk.json(&["import", "--dry-run", "--agent", "ci"]);
    let names: Vec<_> =
        again["accounts"].as_array().expect("accounts").iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["stripe"], "{again}");
    let (file, sent) = (desk.text(".env"), desk.origin.received().len());
    for more in [&[][..], &["--no-test"]] {
        let output = desk.runs(&[&["import", "--yes"], more].concat());
        let failed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            failed.contains("cannot write .keyward-backup/.env: it exists already"),
            "{failed}"
        );
        assert!(failed.contains("Nothing was imported"), "{failed}");
        assert_eq!(
            (desk.text(".env"), desk.text(".keyward-backup/.env")),
            (file.clone(), text.clone())
        );
        assert_eq!(desk.names("connection"), ["github"], "it is refused before a key is connected");
        assert_eq!(desk.origin.received().len(), sent, "it is refused before a key is sent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_key_of_a_file_with_a_byte_order_mark_becomes_a_placeholder() {
    let desk = Desk::new().await;
    let text = |value: &str| format!("\u{feff}GITHUB_TOKEN={value}\r\nPORT=8080\r\n");
    desk.file(".env", &text(&desk.canary.text));
    let done = desk.json(&["import", "--yes", "--agent", "ci"]);
    assert_eq!(desk.names("connection"), ["github"], "{done}");
    let shown = desk.json(&["agent", "show", "ci"]);
    let placeholder =
        shown["bindings"][0]["placeholders"]["token"].as_str().expect("a placeholder");
    assert_eq!(desk.text(".env"), text(placeholder));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_of_codex_is_not_sent_if_its_file_would_keep_the_login() {
    let desk = Desk::new().await;
    // An ID token without claims.
    let login = json!({ "auth_mode": "chatgpt", "tokens": { "id_token": "e30.e30.x",
        "access_token": "e30.e30.x", "refresh_token": "rt_refresh-token-of-the-person", "account_id": "acc-1" } });
    desk.file(".codex/auth.json", &login.to_string());
    let refused = |more: &[&str], says: &str| {
        let output = desk.runs(&[&["import", "codex", "--yes"], more].concat());
        let failed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && failed.contains(says), "{more:?}: {failed}");
        assert_eq!(desk.text(".codex/auth.json"), login.to_string());
        assert_eq!(desk.names("connection"), Vec::<String>::new());
        assert!(desk.origin.received().is_empty(), "the refresh token was sent");
    };
    refused(&["--keep-values"], "omit --keep-values");
    desk.file(".codex/.keyward-backup/auth.json", "{}");
    for more in [&[][..], &["--rotate"], &["--another"], &["--no-test"]] {
        refused(more, ".keyward-backup/auth.json: it exists already");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connected_accounts_are_reported_when_a_file_cannot_be_replaced() {
    let desk = Desk::new().await;
    desk.file(".env", &format!("GITHUB_TOKEN={}\n", desk.canary.text));
    // The second name is of the same file, which has changed then.
    let output = desk.runs(&["import", ".env", "./.env", "--yes", "--no-test", "--json"]);
    let failed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{failed}");
    assert!(failed.contains("cannot write ./.env: it has changed since it was read"), "{failed}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(report["accounts"][0]["result"]["connected"].is_string(), "{report}");
    assert_eq!(report["replaced"], json!([".env"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_profile_of_aws_becomes_a_connection() {
    let desk = Desk::new().await;
    let profile = |name: &str, id: &str| {
        format!(
            "[{name}]\naws_access_key_id = {id}\naws_secret_access_key = {}\n",
            "s3cr".repeat(10)
        )
    };
    let text =
        profile("default", "AKIAIOSFODNN7EXAMPLE") + &profile("work", "AKIAI44QH7DHBEXAMPLE");
    desk.file(".aws/credentials", &text);
    desk.runs(&["import", "aws", "--yes", "--no-test"]);
    assert_eq!(desk.names("connection"), ["aws", "aws-work"]);
    assert_eq!(desk.text(".aws/credentials"), text, "the tool's own file stays as it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_and_files_of_tools_become_connections() {
    let desk = Desk::new().await;
    let key = format!("sk_live_{}", "caNARY456".repeat(5));
    let netrc = format!("machine {GITHUB} login me password {}\n", desk.canary.text);
    desk.file(".netrc", &netrc);
    desk.file(".npmrc", "//npm.test/:_authToken=no-known-shape-1234\n");
    let person = r#"{"type":"authorized_user","refresh_token":"caNARY-refresh"}"#;
    desk.file(".config/gcloud/application_default_credentials.json", person);
    let mut import =
        desk.install.keyward(&["import", "env", "netrc", "npm", "gcloud", "--yes", "--json"]);
    let output = import.env("STRIPE_API_KEY", &key).output().expect("it runs");
    desk.canary.assert_absent("standard output", &output.stdout);
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let accounts = report["accounts"].as_array().expect("accounts").iter();
    let places: Vec<_> = accounts.map(|it| (&it["provider"], &it["places"][0])).collect();
    let home = desk.install.folder().display().to_string();
    assert_eq!(
        places,
        [
            (&json!("stripe"), &json!("environment: STRIPE_API_KEY")),
            (&json!("github"), &json!(format!("{home}/.netrc:1 {GITHUB}"))),
        ]
    );
    let skipped = report["skipped"].to_string();
    assert!(skipped.contains("keyward connect https://npm.test --bearer"), "{report}");
    assert!(skipped.contains("belongs to gcloud's own OAuth app"), "{report}");
    for (host, key) in [(GITHUB, &desk.canary.text), (STRIPE, &key)] {
        let sent = desk.origin.received();
        let keys = sent.iter().filter(|it| it.head.one("host") == Some(host));
        let keys: Vec<_> = keys.filter_map(|it| it.head.one("authorization")).collect();
        assert!(!keys.is_empty() && keys.iter().all(|it| it.contains(key.as_str())), "{keys:?}");
    }
    assert_eq!(desk.text(".netrc"), netrc, "the tool's own file stays as it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_is_not_utf8_is_omitted_and_not_shown() {
    let desk = Desk::new().await;
    let mut import = desk.install.keyward(&["import", "env", "--yes", "--no-test", "--json"]);
    let bad = [desk.canary.text.as_bytes(), b"\xff"].concat();
    import.env("GITHUB_TOKEN", OsStr::from_bytes(&bad)).env(OsStr::from_bytes(&bad), "value");
    let output = import.env("STRIPE_API_KEY", REVOKED).output().expect("it runs");
    desk.canary.assert_absent("standard output", &output.stdout);
    desk.canary.assert_absent("standard error", &output.stderr);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(desk.names("connection"), ["stripe"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_of_other_gateways_become_connections_at_the_hosts_that_they_name() {
    let desk = Desk::new().await;
    let key = &desk.canary.text;
    let secret = |name: &str, value: &str, host: &str| {
        json!({"name": name, "type": "generic", "value": value, "hostPattern": host,
               "pathPattern": null, "injectionConfig": {"headerName": "authorization", "valueFormat": "Bearer {value}"}, "metadata": null})
    };
    // A key of GitHub that the export has for another host does not go to GitHub.
    let secrets = [secret("hub", key, GITHUB), secret("mirror", key, "git.corp.test")];
    let export =
        json!({"version": 1, "secrets": secrets, "agents": [{"name": "ci", "identifier": "ci"}]});
    desk.file("export.json", &export.to_string());
    let found = desk.json(&["import", "onecli", "export.json", "--dry-run"]);
    let names: Vec<_> =
        found["accounts"].as_array().expect("accounts").iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["github"], "{found}");
    assert_eq!(found["skipped"][0]["place"], "export.json agent ci", "{found}");
    let why = found["skipped"][1]["why"].as_str().expect("a reason");
    assert_eq!(why, "no provider has this host: keyward connect https://git.corp.test --bearer");
    assert!(desk.origin.received().is_empty(), "nothing was sent");
    let done = desk.json(&["import", "onecli", "export.json", "--yes", "--agent", "ci"]);
    assert_eq!(done["replaced"], json!([]), "the file stays as it is: {done}");
    let sent = desk.origin.received();
    assert!(sent.iter().all(|it| it.head.one("host") == Some(GITHUB)), "{sent:?}");
    assert!(sent[0].head.one("authorization").is_some_and(|it| it.contains(key)), "{sent:?}");

    let services = format!(
        "services:\n- {{ name: hub, host: {GITHUB}, auth: {{ type: bearer, token: HUB }} }}\n\
         - {{ name: pay, host: '{STRIPE}/v1/*', auth: {{ type: bearer, token: PAY }} }}\n"
    );
    let values = json!({"keys": ["HUB", "PAY"], "credentials": [
        {"key": "HUB", "type": "static", "value": key}, {"key": "PAY", "type": "static", "value": REVOKED}]});
    desk.file("services.yaml", &services);
    desk.file("credentials.json", &values.to_string());
    let vault = ["import", "agent-vault", "services.yaml", "credentials.json"];
    let output = desk.runs(&[&vault[..], &["--yes", "--agent", "ci"]].concat());
    assert_eq!(output.status.code(), Some(1), "one key is revoked: {output:?}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains(REVOKED), "{output:?}");
    assert_eq!(desk.names("connection"), ["github"], "the key of the other export is the same");
    let output = desk.runs(&["import", "agent-vault", "services.yaml"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("CREDENTIALS.json"), "{output:?}");
}

/// An import of the environment with this key of GitHub, with `more` arguments.
fn import_of(desk: &Desk, key: &str, more: &[&str]) -> Output {
    let arguments = [&["import", "env", "--agent", "ci", "--json"], more].concat();
    let mut import = desk.install.keyward(&arguments);
    let output = import.env("GITHUB_TOKEN", key).output().expect("it runs");
    for (name, text) in [("standard output", &output.stdout), ("standard error", &output.stderr)] {
        desk.canary.assert_absent(name, text);
        assert!(!String::from_utf8_lossy(text).contains(key), "{name} of {more:?}");
    }
    output
}

fn first_account(output: &Output) -> Value {
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    report["accounts"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_a_service_and_its_part_take_is_of_the_service() {
    let desk = Desk::new().await;
    let key = format!("github_pat_{}", "caNARY123".repeat(9));
    for (variable, name) in [("MY_TOKEN", "github"), ("COPILOT_GITHUB_TOKEN", "github-copilot")] {
        desk.file(".env", &format!("{variable}={key}\n"));
        let found = desk.json(&["import", ".env", "--dry-run"]);
        assert_eq!(found["accounts"][0]["name"], json!(name), "{found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_connected_is_not_connected_again() {
    let desk = Desk::new().await;
    let key = desk.canary.text.clone();
    assert!(import_of(&desk, &key, &["--yes"]).status.success());
    let sent = desk.origin.received().len();
    for more in [&["--dry-run"][..], &["--yes"], &["--yes", "--another"]] {
        let output = import_of(&desk, &key, more);
        assert!(output.status.success(), "{more:?}: {output:?}");
        let account = first_account(&output);
        assert_eq!((&account["name"], &account["found"]), (&json!("github"), &json!("same")));
    }
    // From another place, where the connection has another name.
    desk.runs(&["connection", "set", "github", "--name", "work"]);
    desk.file(".env", &format!("GITHUB_TOKEN={key}\n"));
    let done = desk.json(&["import", ".env", "--yes", "--agent", "other"]);
    assert_eq!(done["accounts"][0]["result"], json!("known"), "{done}");
    assert_eq!(desk.names("connection"), ["work"]);
    assert_eq!(desk.origin.received().len(), sent, "a key that is connected is not sent again");
    let shown = desk.json(&["agent", "show", "other"]);
    let placeholder =
        shown["bindings"][0]["placeholders"]["token"].as_str().expect("a placeholder");
    assert_eq!(desk.text(".env"), format!("GITHUB_TOKEN={placeholder}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_value_is_imported_only_with_rotate_or_another() {
    let desk = Desk::new().await;
    let key = desk.canary.text.clone();
    let (newer, third) =
        (format!("ghp_{}", "newNEW456".repeat(4)), format!("ghp_{}", "thirdTH78".repeat(4)));
    assert!(import_of(&desk, &key, &["--yes"]).status.success());
    let id = desk.json(&["connection", "show", "github"])["id"].clone();
    let found = first_account(&import_of(&desk, &newer, &["--dry-run"]));
    assert_eq!((&found["name"], &found["found"]), (&json!("github"), &json!("changed")));
    let output = import_of(&desk, &newer, &["--yes"]);
    let failed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{failed}");
    assert!(failed.contains("--rotate") && failed.contains("--another"), "{failed}");
    assert_eq!(first_account(&output)["result"], json!("unchanged"));
    let saw = |key: &str| {
        let sent = desk.origin.received();
        sent.iter().any(|it| it.head.one("authorization").is_some_and(|it| it.contains(key)))
    };
    assert!(!saw(&newer), "it was not sent");
    assert!(first_account(&import_of(&desk, &key, &["--dry-run"]))["found"] == "same");

    let output = import_of(&desk, &newer, &["--yes", "--rotate"]);
    assert!(output.status.success(), "{output:?}");
    assert!(first_account(&output)["result"]["rotated"].is_string(), "{output:?}");
    assert!(saw(&newer), "it was tested before it came into force");
    let now = desk.json(&["connection", "show", "github"]);
    assert_eq!((&now["id"], &now["rotation"]["state"]), (&id, &json!("unconfirmed")), "{now}");
    assert_eq!(first_account(&import_of(&desk, &newer, &["--dry-run"]))["found"], json!("same"));

    let output = import_of(&desk, &third, &["--yes", "--another"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(desk.names("connection"), ["github", "github-2"]);
    for (key, name) in [(&newer, "github"), (&third, "github-2")] {
        let account = first_account(&import_of(&desk, key, &["--dry-run"]));
        assert_eq!((&account["name"], &account["found"]), (&json!(name), &json!("same")));
    }
    // An agent that has none of these connections has changed none.
    desk.file(".env", &format!("GITHUB_TOKEN=ghp_{}\n", "otherOT90".repeat(4)));
    let done = desk.json(&["import", ".env", "--yes", "--agent", "other"]);
    assert_eq!(done["accounts"][0]["name"], json!("github-3"), "{done}");
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_of_package_indexes_become_connections_of_their_own_sites() {
    let desk = Desk::new().await;
    let token = |site: &str| format!("pypi-{site}{}", "cAnArY12".repeat(10));
    let (real, test) = (token("AgEIcHlwaS5vcmc"), token("AgENdGVzdC5weXBpLm9yZw"));
    let text = format!(
        "[distutils]\nindex-servers =\n    pypi\n    own\n\n[pypi]\nusername = __token__\npassword = {real}\n\
         [testpypi]\nusername: __token__\npassword: {test}\n\
         [swapped]\nrepository = https://upload.pypi.org/legacy/\nusername = __token__\npassword = {test}\n\
         [own]\nrepository = https://pypi.corp.test/simple\nusername = me\npassword = my-own-word\n"
    );
    desk.file(".pypirc", &text);
    let found = desk.json(&["import", "pypirc", "--dry-run"]);
    assert_eq!(desk.text(".pypirc"), text, "a dry run changes nothing");
    let file = desk.install.folder().join(".pypirc").display().to_string();
    assert_eq!(found["replaced"], json!([file]), "{found}");
    let skipped = found["skipped"].to_string();
    assert!(skipped.contains("keyward connect https://pypi.corp.test --basic"), "{found}");
    assert!(skipped.contains("it is not a complete key of PyPI"), "{found}");
    let done = desk.json(&["import", "pypirc", "--yes", "--agent", "ci"]);
    assert!(!done.to_string().contains("cAnArY12"), "{done}");
    assert_eq!(desk.names("connection"), ["pypi", "test-pypi"]);
    let shown = desk.json(&["agent", "show", "ci"]);
    let bindings = shown["bindings"].as_array().expect("bindings");
    let placeholder = |name: &str| {
        let of = bindings.iter().find(|it| it["name"] == name).expect(name);
        of["placeholders"]["api_key"].as_str().expect("a placeholder").to_owned()
    };
    let after = text.replacen(&real, &placeholder("pypi"), 1);
    assert_eq!(desk.text(".pypirc"), after.replacen(&test, &placeholder("test-pypi"), 1));
    assert_eq!(desk.text(".keyward-backup/.pypirc"), text);
    assert!(desk.origin.received().is_empty(), "nothing was sent");
}
