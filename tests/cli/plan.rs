//! A plan names what a configuration would do, with everything that is wrong with it, and does nothing; the reload
//! takes the same steps.

mod keys;
mod settings;

use std::fs;
use std::path::PathBuf;

use keyward_api::wire::{PlanStep, PlanView};
use serde_json::{Value, json};

use test_support::canary::Canary;
use test_support::cli::Cli;
use test_support::*;

const SIGNING_KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// An OAuth provider without hosts of the lab.
const IDP: &str = "{ id: idp, name: Idp, hosts: [api.idp.test], auth: [{ id: oauth, kind: oauth2, \
                   authorize: https://idp.acme.test/authorize, token: https://idp.acme.test/token }] }";

fn yaml_of(lab: &Lab) -> String {
    fs::read_to_string(lab.gateway.folder().join("keyward.yaml")).expect("the configuration")
}

/// A file beside the gateway's own, which it does not watch.
fn candidate(lab: &Lab, yaml: &str) -> PathBuf {
    let file = lab.gateway.folder().join("new.yaml");
    fs::write(&file, yaml).expect("a file");
    file
}

/// Plans another configuration than the one in force, over the socket.
async fn plan(lab: &Lab, yaml: &str) -> PlanView {
    let body = json!({"file": candidate(lab, yaml)}).to_string();
    let answer = lab.gateway.api("POST", "/plan", &body).await.is(200);
    lab.canary.assert_absent("a plan", answer.text().as_bytes());
    serde_json::from_value(answer.json()).expect("a plan")
}

/// Has another configuration read: what is wrong with it.
async fn reads(lab: &Lab, yaml: &str) -> Vec<String> {
    fs::rename(candidate(lab, yaml), lab.gateway.folder().join("keyward.yaml")).expect("renamed");
    let asked = lab.gateway.running().reloads().reload();
    patiently("reloading", asked).await.expect("it runs").errors
}

/// `change agent ci: labels, use`, for all steps that do something.
fn told(view: &PlanView) -> Vec<String> {
    let line = |step: &PlanStep| {
        let PlanStep { action, kind, name, .. } = step;
        let secret = step.secret.map(|_| "secret".to_owned());
        let changes: Vec<_> = step.changes.iter().cloned().chain(secret).collect();
        format!("{action} {kind} {name}: {}", changes.join(", ")).trim_end_matches(": ").to_owned()
    };
    view.steps.iter().filter(|step| step.action != "nothing").map(line).collect()
}

/// What the directory holds, and how often it has changed.
fn held(lab: &Lab) -> (String, u64) {
    let directory = &lab.gateway.running().services().directory;
    (format!("{:?}", directory.view()), *directory.changes().borrow())
}

fn ids(lab: &Lab) -> Vec<String> {
    let view = lab.gateway.running().services().directory.view();
    let mut ids: Vec<_> = view.connections().map(|it| format!("{} {}", it.name, it.id)).collect();
    ids.extend(view.agents().map(|it| format!("{} {} {:?}", it.name(), it.id, it.facts.bindings)));
    ids.sort();
    ids
}

/// What leads from the first configuration to the changed one.
const STEPS: [&str; 9] = [
    "make organisation elsewhere",
    "make webhook ops",
    "remove honeytoken old",
    "change honeytoken kept: revokes",
    "make honeytoken new",
    "make connection more",
    "change connection spare: purpose, secret",
    "change agent ci: labels, use",
    "pause agent bot",
];

/// And back.
const STEPS_BACK: [&str; 8] = [
    "pause webhook ops",
    "remove honeytoken new",
    "make honeytoken old",
    "change honeytoken kept: revokes",
    "change connection spare: purpose, secret",
    "change agent ci: labels, use",
    "resume agent bot",
    "pause connection more",
];

fn changed(own: &str) -> String {
    own
        .lines()
        .filter(|line| !line.contains("name: bot,"))
        .map(|line| match line {
            line if line.contains("name: acme, provider") => line.to_owned() + "\n  - { name: more, provider: acme, fields: { api_key: { env: CANARY } } }",
            line if line.contains("name: spare") => line.replace("name: spare,", "name: spare, purpose: mail,"),
            line if line.contains("name: ci,") => line.replace("use: [acme]", "use: [more], labels: { team: a }"),
            line if line.contains("honeytokens:") => "honeytokens: [{ name: kept, revokes: true }, { name: new, org: elsewhere }]\n\
                webhooks: [{ name: ops, url: https://hooks.acme.test/x, events: [honeytoken.used], signing_key: { env: HOOK } }]".to_owned(),
            line => line.to_owned(),
        })
        .map(|line| line + "\n")
        .collect()
}

#[tokio::test]
async fn a_plan_names_every_step_and_changes_nothing_and_the_reload_takes_the_same_steps() {
    let key = Canary::of(SIGNING_KEY.to_owned());
    let mut lab = Plan::api_key()
        .agent("bot", "acme")
        .connection("{ name: spare, provider: acme, fields: { api_key: { env: CANARY } } }")
        .secret("HOOK", &key)
        .top("honeytokens: [{ name: old }, { name: kept }]")
        .start(Origin::saying("fine"))
        .await;
    let own = yaml_of(&lab);
    let own_plan = lab.gateway.api("POST", "/plan", "").await;
    let own_plan: PlanView = serde_json::from_value(own_plan.json()).expect("a plan");
    assert_eq!(told(&own_plan), [""; 0], "the configuration is in force");

    let new = changed(&own);
    let before = held(&lab);
    let planned = plan(&lab, &new).await;
    key.assert_absent("a plan", format!("{planned:?}").as_bytes());
    assert_eq!(told(&planned), STEPS);
    assert!(planned.problems.is_empty() && planned.warnings.is_empty(), "{planned:?}");
    let place =
        planned.steps.iter().find(|step| step.name == "more").and_then(|it| it.place.clone());
    assert!(place.is_some_and(|place| place.contains("new.yaml:") && place.ends_with(": connections[1]")));
    assert_eq!(held(&lab), before, "a plan changes nothing");
    assert_eq!(plan(&lab, &new).await, planned, "and is the same again");

    assert_eq!(reads(&lab, &new).await, [""; 0]);
    let after = ids(&lab);
    assert_eq!(told(&plan(&lab, &new).await), [""; 0], "the steps were taken");
    assert_eq!(told(&plan(&lab, &own).await), STEPS_BACK, "what is made again keeps what it had");
    assert_eq!(ids(&lab), after);
    let records = lab.gateway.stop_with_changes().await;
    assert!(!records.iter().any(|record| record["change"]["what"] == "plan"), "{records:?}");
    lab.finish().await;
}

#[tokio::test]
async fn a_changed_environment_replaces_a_connection_and_changes_plugins_and_bindings() {
    let manifest = "{ plugin: reader, version: 1.0.0, connections: [{ slot: mail, provider: acme, required: false }] }";
    let plugin =
        format!("plugins: [{{ manifest: {manifest}, agent: bot, slots: {{ mail: live }} }}]");
    let lab = Plan::api_key()
        .agent("bot", "")
        .connection("{ name: live, provider: acme, environment: live, fields: { api_key: { env: CANARY } } }")
        .connection("{ name: test, provider: acme, environment: test, fields: { api_key: { env: CANARY } } }")
        .top(&plugin)
        .start(Origin::saying("fine"))
        .await;
    let own = yaml_of(&lab);
    let moved = own
        .replace("name: bot,", "name: bot, environment: test,")
        .replace("slots: { mail: live }", "slots: { mail: test }");
    assert_eq!(
        told(&plan(&lab, &moved).await),
        ["change agent bot: environment", "change plugin reader: slots"]
    );
    assert_eq!(reads(&lab, &moved).await, [""; 0]);
    assert_eq!(told(&plan(&lab, &moved).await), [""; 0]);
    // Of a plugin that goes at the same time, too.
    let gone: String = own
        .lines()
        .filter(|line| !line.contains("plugins:"))
        .map(|line| line.to_owned() + "\n")
        .collect();
    let gone = gone.replace("name: bot,", "name: bot, environment: live,");
    assert_eq!(
        told(&plan(&lab, &gone).await),
        ["change agent bot: environment", "pause plugin reader: slots"]
    );
    assert_eq!(reads(&lab, &gone).await, [""; 0]);
    assert_eq!(told(&plan(&lab, &gone).await), [""; 0]);

    let other = gone
        .replace("name: acme, provider: acme,", "name: acme, provider: acme, environment: other,");
    let steps = ["replace connection acme: environment", "change agent ci: use"];
    assert_eq!(told(&plan(&lab, &other).await), steps, "the agent is bound again");
    assert_eq!(reads(&lab, &other).await, [""; 0]);
    assert_eq!(told(&plan(&lab, &other).await), [""; 0]);
    lab.finish().await;
}

/// What is wrong with the configuration of [`wrong`].
const PROBLEMS: &[&str] = &[
    "connections[1]: connection `mine`: a stored connection has this name; rename one of them",
    "connections[2]: connection `orphan`: `app` names app `own`, which does not exist; declare or add it",
    "agents[0]: agent `handy`: a stored agent has this name; rename one of them",
    "agents[1]: agent `ci`: agent `ci` has its token; choose another",
    "agents[3]: agent `two`: agent `one` has its token; choose another",
    "agents[4]: agent `spy`: `use` names connection `mine`, which is private and has another owner; share it, or name another",
    "agents[4]: agent `spy`: `use` names connection `nothing`, which does not exist; declare or add it",
    "plugins[1]: plugin `reader` is declared for agent `ci` twice; remove one",
    "honeytokens[0]: honeytoken `bait`: a stored honeytoken has this name; rename one of them",
    "webhooks[50]: webhook `h50`: its organisation has 50 already; remove some",
    "rules[0]: there is no agent `nobody`",
];

fn wrong(own: &str, ci: &str) -> String {
    let manifest = "{ plugin: reader, version: 1.0.0, connections: [{ slot: mail, provider: acme, required: false }] }";
    let hooks: Vec<_> = (0..51)
        .map(|n| {
            format!(
                "{{ name: h{n}, url: https://hooks.acme.test/x, signing_key: {{ env: HOOK }} }}"
            )
        })
        .collect();
    let mut yaml = own.replace(
        "agents:\n",
        "  - { name: mine, provider: acme, fields: { api_key: { env: CANARY } } }\n  \
           - { name: orphan, provider: idp, app: own }\nagents:\n  \
           - { name: handy }\n  \
           - { name: ci, org: elsewhere, token: { env: TOKEN_CI } }\n  \
           - { name: one, token: { env: SHARED } }\n  \
           - { name: two, token: { env: SHARED } }\n  \
           - { name: spy, use: [mine, nothing] }\n",
    );
    yaml += &format!(
        "apps: [{{ name: own, org: elsewhere, provider: idp, client_id: x }}]\n\
         plugins:\n  - {{ manifest: {manifest}, agent: ci }}\n  - {{ manifest: {manifest}, agent: {ci} }}\n\
         honeytokens: [{{ name: bait }}]\nwebhooks: [{}]\n\
         rules: [{{ name: r, agents: [nobody], hosts: [{HOST}], use: acme }}]\n",
        hooks.join(", ")
    );
    yaml
}

/// What was found only while a configuration was applied, or only where it was foreseen, among what always was.
#[tokio::test]
async fn problems_of_every_kind_are_found_at_once_each_with_its_place() {
    let key = Canary::of(SIGNING_KEY.to_owned());
    let shared = Canary::new("kwa_");
    let lab = Plan::api_key()
        .provider(IDP)
        .secret("HOOK", &key)
        .secret("SHARED", &shared)
        .start(Origin::saying("fine"))
        .await;
    let made = |path: &'static str, body: Value| {
        let lab = &lab;
        async move {
            lab.gateway.api("POST", path, &body.to_string()).await.is(201);
        }
    };
    made("/users", json!({"name": "ann", "role": "member"})).await;
    let private = json!({"name": "mine", "provider": "acme", "owner": "ann", "visibility": "private",
        "fields": {"api_key": lab.canary.text}});
    made("/connections", private).await;
    made("/agents", json!({"name": "handy"})).await;
    made("/honeytokens", json!({"name": "bait"})).await;
    let view = lab.gateway.running().services().directory.view();
    let org = keyward_base::id::OrgId::default_org();
    let ci = view.find_agent(&org, "ci").expect("the agent").id.clone();

    let yaml = wrong(&yaml_of(&lab), ci.as_str());
    let before = held(&lab);
    let planned = plan(&lab, &yaml).await;
    let texts: Vec<_> = planned.problems.iter().map(|problem| problem.text.as_str()).collect();
    for text in PROBLEMS {
        assert!(texts.iter().any(|it| it.contains(text)), "{text}: {texts:#?}");
    }
    assert_eq!(texts.len(), PROBLEMS.len(), "{texts:#?}");
    assert!(planned.steps.is_empty());
    for problem in &planned.problems {
        assert!(problem.line.is_some() && problem.path.is_some(), "{problem:?}");
        assert!(
            problem.file.as_ref().is_some_and(|file| file.ends_with("new.yaml")),
            "{problem:?}"
        );
    }
    let errors = reads(&lab, &yaml).await;
    let errors: Vec<_> =
        errors.iter().map(|error| error.replace("keyward.yaml", "new.yaml")).collect();
    assert_eq!(errors, texts, "the reload says the same");
    assert_eq!(held(&lab), before, "and changes nothing");
    lab.finish().await;
}

#[tokio::test]
async fn a_token_moves_only_to_an_agent_that_is_listed_after_its_old_agent() {
    let other = Canary::new("kwa_");
    let lab = Plan::api_key()
        .agent("bot", "acme")
        .secret("OTHER", &other)
        .start(Origin::saying("fine"))
        .await;
    let own = yaml_of(&lab);
    let swapped = own
        .replace("env: TOKEN_CI }", "env: X }")
        .replace("env: TOKEN_BOT }", "env: TOKEN_CI }")
        .replace("env: X }", "env: TOKEN_BOT }");
    let problems = plan(&lab, &swapped).await.problems;
    assert!(problems[0].text.contains("agent `bot` has its token"), "{problems:?}");
    let moved = own
        .replace("env: TOKEN_CI }", "env: OTHER }")
        .replace("env: TOKEN_BOT }", "env: TOKEN_CI }");
    assert_eq!(
        told(&plan(&lab, &moved).await),
        ["change agent ci: token", "change agent bot: token"]
    );
    assert_eq!(reads(&lab, &moved).await, [""; 0]);
    assert_eq!(told(&plan(&lab, &moved).await), [""; 0]);
    lab.finish().await;
}

#[tokio::test]
async fn only_the_operator_may_plan_another_file() {
    let lab = Lab::simple().await;
    let admin = json!({"name": "root", "role": "admin"}).to_string();
    lab.gateway.api("POST", "/users", &admin).await.is(201);
    let token = lab.gateway.api("POST", "/tokens", r#"{"user": "root"}"#).await.json();
    let token = token["token"].as_str().expect("a token").to_owned();
    let by = format!("Authorization: Bearer {token}\r\n");
    lab.gateway.api_with(&by, ("POST", "/plan"), "{}").await.is(200);
    let file = json!({"file": candidate(&lab, "lisen: 1\n")}).to_string();
    let other = lab.gateway.api_with(&by, ("POST", "/plan"), &file).await.is(422);
    assert_eq!(other.json()["error"]["field"], "file");
    lab.gateway.api("POST", "/plan", r#"{"file": "new.yaml"}"#).await.is(422);
    let planned: PlanView =
        serde_json::from_value(lab.gateway.api("POST", "/plan", &file).await.json())
            .expect("a plan");
    assert!(planned.problems[0].text.contains("lisen"), "{planned:?}");
    let absent = json!({"file": lab.gateway.folder().join("absent.yaml")}).to_string();
    let absent = lab.gateway.api("POST", "/plan", &absent).await.text();
    assert!(absent.contains("cannot be read"), "{absent}");
    lab.finish().await;
}

/// A secret of a file, which no output may hold.
fn with_secret(cli: &Cli) -> Canary {
    let secret = Canary::new("ghp_");
    let file = cli.file("secret", &secret.text);
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(file, private).expect("it is ours");
    secret
}

/// Without the folder that files of this test are in.
fn short(cli: &Cli, text: &str) -> String {
    let home = cli.data().parent().expect("its folder").display().to_string();
    text.replace(&format!("{home}/"), "")
}

fn pretty(json: &Value) -> String {
    serde_json::to_string_pretty(json).expect("JSON")
}

const CONNECTION: &str = "connections: [{ name: work, provider: github, auth: pat, fields: { token: { file: secret } } }]\n";

#[test]
fn without_a_gateway_a_plan_compares_the_file_with_the_store_and_makes_nothing() {
    let cli = Cli::new();
    let secret = with_secret(&cli);
    let file =
        cli.file("new.yaml", &format!("{CONNECTION}agents: [{{ name: ci, use: [work] }}]\n"));
    let file = file.to_str().expect("UTF-8");
    let ran = cli.run(&["plan", file]);
    assert_eq!(
        (ran.code, &*ran.err),
        (0, "note: nothing is stored yet: everything is new\n"),
        "{ran:?}"
    );
    insta::assert_snapshot!(short(&cli, &ran.out), @r"
    ACTION   KIND         NAME   CHANGES   PLACE
    make     connection   work             new.yaml:1: connections[0]
    make     agent        ci               new.yaml:2: agents[0]
    ");
    assert!(!cli.data().exists(), "nothing was made");

    let serving = cli.serve_with(&format!("{CONNECTION}agents: [{{ name: ci, use: [work] }}]\n"));
    drop(serving);
    let before = cli.run(&["connection", "list", "--json"]).ok();
    insta::assert_snapshot!(cli.run(&["plan", file]).ok(), @r"
    nothing to make, change, pause or remove
    1 unchanged resource has a secret: checked when applied
    ");
    let changed = cli.file("changed.yaml", "agents: [{ name: ci, labels: { team: a } }]\n");
    let json = cli.run(&["plan", changed.to_str().expect("UTF-8"), "--json"]).ok();
    let json: Value = serde_json::from_str(&short(&cli, &json)).expect("JSON");
    insta::assert_snapshot!(pretty(&json), @r#"
    {
      "problems": [],
      "steps": [
        {
          "action": "change",
          "changes": [
            "labels",
            "use"
          ],
          "kind": "agent",
          "name": "ci",
          "org": "default",
          "place": "changed.yaml:1: agents[0]"
        },
        {
          "action": "pause",
          "kind": "connection",
          "name": "work",
          "org": "default"
        }
      ],
      "warnings": []
    }
    "#);
    assert_eq!(cli.run(&["connection", "list", "--json"]).ok(), before, "nothing was changed");
    secret.assert_absent_below(&cli.data());
}

#[test]
fn a_running_gateway_plans_a_file_and_every_problem_is_printed_with_exit_code_1() {
    let cli = Cli::new();
    let secret = with_secret(&cli);
    let _serving = cli.serve_with(CONNECTION);
    assert!(cli.run(&["reload", "--dry-run"]).ok().starts_with("nothing to make"));
    assert!(cli.run(&["plan"]).ok().starts_with("nothing to make"));
    let listen = "listen: { proxy: 127.0.0.1:0, admin: 127.0.0.1:0 }\n";
    let wrong = cli.file(
        "wrong.yaml",
        &format!("{listen}agents: [{{ name: ci, use: [wrk] }}]\nrules: [{{ name: r, agents: [nobody], hosts: [x.test], action: deny }}]\n"),
    );
    let wrong = wrong.to_str().expect("UTF-8");
    insta::assert_snapshot!(short(&cli, &cli.run(&["plan", wrong]).failed(1)), @r"
    error: wrong.yaml:2: agents[0]: agent `ci`: `use` names connection `wrk`, which does not exist; did you mean `work`?
    error: wrong.yaml:3: rules[0]: there is no agent `nobody`: add it with `keyward agent add`
    hint: a start or a reload would refuse this configuration
    ");
    let ran = cli.run(&["plan", wrong, "--json"]);
    assert_eq!((ran.code, &*ran.err), (1, ""), "{ran:?}");
    let json: Value = serde_json::from_str(&short(&cli, &ran.out)).expect("JSON");
    insta::assert_snapshot!(pretty(&json["problems"][0]), @r#"
    {
      "file": "wrong.yaml",
      "line": 2,
      "message": "agent `ci`: `use` names connection `wrk`, which does not exist",
      "path": "agents[0]",
      "remedy": "did you mean `work`?",
      "text": "wrong.yaml:2: agents[0]: agent `ci`: `use` names connection `wrk`, which does not exist; did you mean `work`?"
    }
    "#);
    let other = cli.file("other.yaml", &format!("{listen}{}", CONNECTION.replace("work", "home")));
    let ran = cli.run(&["plan", other.to_str().expect("UTF-8")]);
    secret.assert_absent("a plan", ran.out.as_bytes());
    insta::assert_snapshot!(short(&cli, &ran.ok()), @r"
    ACTION   KIND         NAME   CHANGES   PLACE
    make     connection   home             other.yaml:2: connections[0]
    pause    connection   work
    ");
    assert_eq!(
        cli.run(&["connection", "list", "--json"]).json()["items"].as_array().map(Vec::len),
        Some(1)
    );
}

#[test]
fn a_running_gateway_plans_the_rules_of_a_file_and_its_default_too() {
    let cli = Cli::new();
    let deny = "  - { name: no-deletes, hosts: [a.test], methods: [DELETE], action: deny }\n";
    let _serving = cli.serve_with(&format!("rules:\n{deny}"));
    assert!(cli.run(&["plan"]).ok().starts_with("nothing to make"));
    let listen = "listen: { proxy: 127.0.0.1:0, admin: 127.0.0.1:0 }\n";
    let docs = "  - { name: docs, hosts: [docs.test], action: pass }\n";
    let file = cli.file("new.yaml", &format!("{listen}default: pass\nrules:\n{docs}"));
    let ran = cli.run(&["plan", file.to_str().expect("UTF-8")]);
    insta::assert_snapshot!(short(&cli, &ran.ok()), @r"
    ACTION   KIND   NAME         CHANGES   PLACE
    remove   rule   no-deletes
    make     rule   docs                   new.yaml:4: rules[0]
    change   rule   default      action
    ");
}

#[test]
fn a_start_with_a_rule_for_an_unknown_agent_writes_nothing() {
    let cli = Cli::new();
    let yaml = "listen: { proxy: 127.0.0.1:0, admin: 127.0.0.1:0 }\nagents: [{ name: ci }]\n\
                rules: [{ name: r, agents: [nobody], hosts: [x.test], action: deny }]\n";
    let file = cli.file("keyward.yaml", yaml);
    let err = cli.run(&["serve", "--config", file.to_str().expect("UTF-8")]).failed(1);
    assert!(err.contains("keyward.yaml:3: rules[0]: there is no agent `nobody`"), "{err}");
    let agents = cli.run(&["agent", "list", "--json"]).json();
    assert_eq!(agents["items"], json!([]), "rules are judged before anything is written");
}
