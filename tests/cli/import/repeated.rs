//! A key at several places, and files that have placeholders of an earlier import.

use serde_json::json;

use super::{Desk, GITHUB, MISTRAL, first_account};

#[tokio::test(flavor = "multi_thread")]
async fn a_value_at_several_places_is_connected_once() {
    let desk = Desk::new().await;
    let key = &desk.canary.text;
    let text =
        |value: &str| format!("GITHUB_TOKEN={value}\nGH_TOKEN={value}\nGITHUB_PAT={value}\n");
    desk.file(".env", &text(key));
    desk.file("more.env", &text(key));
    desk.file(".netrc", &format!("machine {GITHUB} login me password {key}\n"));
    let sources = ["import", ".env", "more.env", "netrc", "--agent", "ci"];
    let found = desk.json(&[&sources[..], &["--dry-run"]].concat());
    let accounts = found["accounts"].as_array().expect("accounts");
    assert_eq!(accounts.len(), 1, "{found}");
    assert_eq!(accounts[0]["places"].as_array().map(Vec::len), Some(7), "{found}");
    let done = desk.json(&[&sources[..], &["--yes", "--another"]].concat());
    assert_eq!(desk.names("connection"), ["github"], "{done}");
    assert_eq!(desk.origin.received().len(), 1, "it is tested once");
    let shown = desk.json(&["agent", "show", "ci"]);
    let placeholder =
        shown["bindings"][0]["placeholders"]["token"].as_str().expect("a placeholder");
    for file in [".env", "more.env"] {
        assert_eq!(desk.text(file), text(placeholder), "{file}");
    }
}

/// The file kept it in cleartext.
#[tokio::test(flavor = "multi_thread")]
async fn an_imported_key_under_an_unknown_name_becomes_the_same_placeholder() {
    let desk = Desk::new().await;
    let key = desk.canary.text.replacen("ghp_", "", 1);
    let text =
        |value: &str| format!("MISTRAL_API_KEY={value}\nASSISTANT=\"{value}\"\nMODEL=large\n");
    desk.file(".env", &text(&key));
    desk.file("more.env", &format!("export MY_SECRET='{key}'\n"));
    let done = desk.json(&["import", ".env", "more.env", "--yes", "--agent", "ci"]);
    let places = [".env:1 MISTRAL_API_KEY", ".env:2 ASSISTANT", "more.env:1 MY_SECRET"];
    assert_eq!(done["accounts"][0]["places"], json!(places), "{done}");
    assert_eq!(done["skipped"], json!([]), "{done}");
    let sent = desk.origin.only();
    assert_eq!(sent.head.one("host"), Some(MISTRAL));
    assert_eq!(sent.head.one("authorization"), Some(&*format!("Bearer {key}")));
    let shown = desk.json(&["agent", "show", "ci"]);
    let placeholders = shown["bindings"][0]["placeholders"].as_object().expect("placeholders");
    let placeholder = placeholders.values().next().and_then(|it| it.as_str()).expect("one");
    assert_eq!(desk.text(".env"), text(placeholder));
    assert_eq!(desk.text("more.env"), format!("export MY_SECRET='{placeholder}'\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_still_have_an_imported_key_are_named() {
    let desk = Desk::new().await;
    let key = &desk.canary.text;
    let text = |value: &str| {
        format!("# GITHUB_TOKEN={key}\nGITHUB_TOKEN={value}\nREMOTE=https://me:{key}@git.test/\n")
    };
    desk.file(".env", &text(key));
    let output = desk.runs(&["import", "--yes", "--agent", "ci"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    for line in [".env:1", ".env:3"] {
        assert!(said.contains(&format!("\n{line} still has an imported key: ")), "{said}");
    }
    assert!(!said.contains(".env:2 still"), "{said}");
    let shown = desk.json(&["agent", "show", "ci"]);
    let placeholder =
        shown["bindings"][0]["placeholders"]["token"].as_str().expect("a placeholder");
    assert_eq!(desk.text(".env"), text(placeholder));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_placeholder_of_another_agent_is_imported_as_its_connection() {
    let desk = Desk::new().await;
    let key = desk.canary.text.clone();
    desk.file(".env", &format!("GITHUB_TOKEN={key}\n"));
    desk.json(&["import", "--yes", "--no-test", "--agent", "one"]);
    let of_one = desk.text(".env");
    // The agent's own, that of another agent within a text, and one that no agent has.
    let unknown = format!(
        "ghp_{}",
        keyward_rules::inject::placeholder::Placeholder::issue("", None).as_str()
    );
    let token = of_one.trim_start_matches("GITHUB_TOKEN=").trim();
    desk.file("texts", &format!("REMOTE=https://{token}@github.com\nOLD={unknown}\n"));
    for (file, agent, says) in [
        (".env", "one", "already the placeholder of agent one for connection github"),
        ("texts", "two", "of agent one for connection github: keyward agent bind two github"),
        ("texts", "two", "a placeholder that no agent of yours has"),
    ] {
        let before = desk.text(file);
        let output = desk.runs(&["import", file, "--yes", "--agent", agent]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains(says), "{file}: {said}");
        assert!(!said.contains("no key of a known provider was found"), "{file}: {said}");
        assert_eq!(desk.text(file), before);
    }
    assert_eq!(desk.names("agent"), ["one"], "nothing was imported for another");

    let found = desk.json(&["import", "--dry-run", "--agent", "two"]);
    let account = &found["accounts"][0];
    assert_eq!((&account["name"], &account["found"]), (&json!("github"), &json!("placeholder")));
    assert_eq!((&found["replaced"], &found["switched"]), (&json!([]), &json!([".env"])));
    assert_eq!(desk.text(".env"), of_one, "a dry run changes nothing");
    let done = desk.json(&["import", "--yes", "--agent", "two"]);
    assert_eq!(done["accounts"][0]["result"], json!("known"), "{done}");
    let shown = desk.json(&["agent", "show", "two"]);
    let placeholder =
        shown["bindings"][0]["placeholders"]["token"].as_str().expect("a placeholder");
    assert_eq!(desk.text(".env"), format!("GITHUB_TOKEN={placeholder}\n"));
    assert_ne!(desk.text(".env"), of_one);
    let backup = desk.text(".keyward-backup/.env");
    assert_eq!(backup, format!("GITHUB_TOKEN={key}\n"), "the backup of the key stays");
    assert_eq!(desk.names("connection"), ["github"]);
    assert!(desk.origin.received().is_empty(), "nothing was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_placeholder_of_a_connection_that_an_agent_may_not_use_stays() {
    let desk = Desk::new().await;
    desk.file(".env", &format!("GITHUB_TOKEN={}\n", desk.canary.text));
    desk.json(&["import", "--yes", "--no-test", "--agent", "one"]);
    desk.runs(&["connection", "set", "github", "--env", "production"]);
    desk.runs(&["agent", "add", "two", "--env", "development"]);
    let before = desk.text(".env");
    let output = desk.runs(&["import", "--yes", "--agent", "two", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let refused = first_account(&output)["result"]["refused"].to_string();
    assert!(refused.contains("`two` is in development"), "{refused}");
    assert_eq!(desk.text(".env"), before);
    let shown = desk.json(&["agent", "show", "two"]);
    assert_eq!(shown["bindings"], json!([]), "{shown}");
}
