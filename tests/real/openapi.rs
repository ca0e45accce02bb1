//! The OpenAPI document, as clients use it: a fuzzer that is made for such documents finds no answer that differs from
//! it, and a client that a generator makes of it creates, binds and removes.

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::stage::{installed, lab, planned, run, run_within, said};
use test_support::canary::Canary;
use test_support::*;

/// What ends the fuzzer's own rights, restarts something or never ends.
const LEFT_OUT: &str = "^/(runs|reload|audit|users|tokens|orgs)|rotate";

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

/// Creates an agent, binds a connection, reads, changes, and removes both.
const CLIENT: &str = r#"
import sys
sys.path.insert(0, sys.argv[1])
from keyward_client import AuthenticatedClient
from keyward_client.api.agents import (
    add_agent, bind, change_agent, get_agent, list_bindings, remove_agent, unbind
)
from keyward_client.api.connections import get_connection
from keyward_client.api.users import add_user, list_users
from keyward_client.models import BindingSpec, ChangedAgent, NewAgent, NewUser, Role

client = AuthenticatedClient(base_url=sys.argv[2], token=sys.argv[3], raise_on_unexpected_status=True)
assert add_agent.sync(client=client, body=NewAgent(name="generated")).name == "generated"
twice = add_agent.sync_detailed(client=client, body=NewAgent(name="generated"))
assert (twice.status_code, twice.parsed.error.code) == (409, "name_taken"), twice
missing = bind.sync_detailed("generated", client=client, body=BindingSpec(connection="nothing"))
assert (missing.status_code, missing.parsed.error.code) == (404, "not_found"), missing
assert bind.sync("generated", client=client, body=BindingSpec(connection="acme")).name == "acme"
assert [it.name for it in list_bindings.sync("generated", client=client).items] == ["acme"]
found = get_connection.sync("acme", client=client)
assert (found.name, found.state, found.id[:4]) == ("acme", "active", "con_"), found
assert add_user.sync(client=client, body=NewUser(name="cust", role=Role.END_USER)).role == "end_user"
roles = {it.name: it.role for it in list_users.sync(client=client).items}
assert roles == {"ann": "admin", "cust": "end_user"}, roles
for labels, left in ({"team": "a", "gone": "b"}, 2), ({"gone": None}, 1):
    patch = ChangedAgent.from_dict({"labels": labels})
    changed = change_agent.sync("generated", client=client, body=patch)
    assert len(changed.labels.to_dict()) == left, changed
assert unbind.sync_detailed("generated", "acme", client=client).status_code == 204
assert remove_agent.sync_detailed("generated", client=client).status_code == 204
assert get_agent.sync_detailed("generated", client=client).status_code == 404
print("all done")
"#;

/// A token of an admin.
async fn admin(lab: &mut Lab) -> String {
    let new = json!({"name": "ann", "role": "admin"}).to_string();
    lab.gateway.api("POST", "/users", &new).await.is(201);
    let made = lab.gateway.api("POST", "/tokens", r#"{"user":"ann"}"#).await;
    let token = made.json()["token"].as_str().expect("shown once").to_owned();
    lab.guard(Canary::of(token.clone()));
    token
}

fn base(lab: &Lab) -> String {
    format!("http://{}/api/v1", lab.gateway.admin)
}

/// It sends more than a thousand requests, and shares the processor with browsers.
const FUZZED_WITHIN: Duration = Duration::from_secs(400);

#[tokio::test(flavor = "multi_thread")]
async fn no_generated_request_gets_an_answer_that_the_document_lacks() {
    let plan = Plan::api_key().limit("api_requests_per_minute_max: 1000000");
    let mut lab = planned(plan).await;
    let token = admin(&mut lab).await;
    let mut fuzzer = Command::new(installed("real-venv/bin/schemathesis"));
    fuzzer.current_dir(lab.gateway.folder()).env("HOME", lab.gateway.folder());
    fuzzer.args(["run", &format!("{}/openapi.json", base(&lab)), "--url", &base(&lab)]);
    fuzzer.args(["--header", &format!("Authorization: Bearer {token}"), "--checks", CHECKS]);
    fuzzer.args(["--phases", "coverage", "--seed", "1", "--exclude-path-regex", LEFT_OUT]);
    fuzzer.args(["--suppress-health-check", "all", "--request-timeout", "30", "--no-color"]);
    let output = run_within(FUZZED_WITHIN, fuzzer).await;
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    let tried = text.lines().find_map(|line| line.trim().split_once(" generated, "));
    let tried = tried.map_or(0, |(count, _)| count.parse().unwrap_or(0));
    assert!(tried > 1_000, "{text}");
    assert!(!text.contains("returned 429") && !text.contains("only 401/403"), "{text}");
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_client_creates_binds_and_removes() {
    let mut lab = lab().await;
    let token = admin(&mut lab).await;
    let folder = lab.gateway.folder().join("client");
    let mut generator = Command::new(installed("real-venv/bin/openapi-python-client"));
    generator.args(["generate", "--url", &format!("{}/openapi.json", base(&lab))]);
    generator.arg("--output-path").arg(&folder);
    let output = run(generator).await;
    assert!(folder.join("keyward_client").is_dir(), "{}", said(&output));
    let mut client = Command::new(installed("real-venv/bin/python"));
    client.args(["-c", CLIENT]).arg(&folder).args([base(&lab), token]);
    let output = run(client).await;
    assert!(said(&output).contains("all done"), "{}", said(&output));
    lab.finish().await;
}
