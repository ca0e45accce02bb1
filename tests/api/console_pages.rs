//! Pages of the console: what a reader who comes from a link on another site sees, why an agent is paused, what an
//! agent of many reaches, what becomes of a form without the script, and the way back in a walk.

use serde_json::{Value, json};

use crate::admin_network::{admin_lab, ask_at, user, user_login};
use test_support::canary::Canary;
use test_support::login::Login;
use test_support::*;

const FROM_ELSEWHERE: &str = "Sec-Fetch-Site: cross-site\r\n";

#[tokio::test]
async fn a_link_on_another_site_opens_an_explanation_and_no_costly_check() {
    let (lab, login) = admin_lab().await;
    let fields = format!("{FROM_ELSEWHERE}{}", login.cookie());
    let page = async |path: &str| {
        let answer = ask_at(&lab, &format!("GET {path}"), &fields, "").await;
        (answer.head.status(), answer.text())
    };
    for path in ["/settings/store", "/settings/plan"] {
        let (status, text) = page(path).await;
        assert!(status == 403 && text.contains("page of another site"), "{path}: {status} {text}");
    }
    let asked = format!("/rules?agent=ci&url=https%3A%2F%2F{HOST}%2Fuser");
    let (status, text) = page(&asked).await;
    assert!(status == 200 && !text.contains("page of another site"), "{status} {text}");
    assert!(text.contains("id=\"answer\""), "{text}");
    lab.finish().await;
}

/// Usage has no requests without a known agent.
#[tokio::test]
async fn the_number_of_blocked_requests_is_the_sum_of_the_list_of_blocked_requests() {
    let (lab, login) = admin_lab().await;
    let mut wire = lab.client().await;
    wire.ask(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: x\r\n\r\n")).await.is(407);
    drop(wire);
    assert_eq!(lab.connect(&format!("{STRANGER}:443")).await.0.head.status(), 403);
    let [number, list] = until_some("two records", async || {
        let page = ask_at(&lab, "GET /", &login.cookie(), "").await.text();
        let (_, number) = page.split_once("Blocked, 24 h</p>").expect("a tile");
        let (_, list) = page.split_once("Blocked in the last 24 hours").expect("a list");
        let part = |text: &str, end: &str| text.split(end).next().map(str::to_owned);
        let parts = [part(number, "</a>")?, part(list, "</section>")?];
        (parts[1].matches(r#"<span class="num muted">1</span>"#).count() == 2).then_some(parts)
    })
    .await;
    assert_eq!(number, r#"<p class="v">2</p>"#, "{list}");
    lab.finish().await;
}

#[tokio::test]
async fn a_page_past_the_end_of_a_list_says_so_and_links_the_first_page() {
    let (lab, login) = admin_lab().await;
    for (asked, first) in [
        ("/agents?after=zz", "/agents"),
        ("/people?after=zz", "/people"),
        ("/connections?after=zz", "/connections"),
        ("/connections?q=acme&after=zz", "/connections?q=acme"),
        ("/people?role=end_user&after=zz", "/people?role=end_user"),
        ("/webhooks?after=zz", "/webhooks"),
    ] {
        let page = ask_at(&lab, &format!("GET {asked}"), &login.cookie(), "").await.text();
        assert!(page.contains("This page is past the end of the list"), "{asked}: {page}");
        assert!(page.contains(&format!("href=\"{first}\">First page")), "{asked}: {page}");
        assert!(!page.contains(" yet</b>"), "{asked}: {page}");
    }
    lab.finish().await;
}

/// As many rules of another agent as a page of the API has stand before those of its bindings.
#[tokio::test]
async fn an_agent_s_page_shows_its_access_despite_a_thousand_rules_of_another_agent() {
    let mut plan = Plan::api_key().agent("zeta", "acme");
    for number in 0..1_000 {
        let of = format!("name: r-{number:04}, agents: [ci], hosts: [h{number}.acme.test]");
        plan = plan.rule(&format!("{{ {of}, action: pass }}"));
    }
    let mut lab = plan.start(Origin::saying("fine")).await;
    let login = user_login(&mut lab, "ann", "admin").await;
    let agent = ask_at(&lab, "GET /agents/zeta", &login.cookie(), "").await.text();
    let (_, access) = agent.split_once("What it reaches").expect("a section");
    let (access, _) = access.split_once("</section>").expect("its end");
    assert!(access.contains("its binding") && access.contains("the default"), "{access}");
    assert!(!access.contains("h0.acme.test"), "{access}");
    let rules = ask_at(&lab, "GET /rules", &login.cookie(), "").await.text();
    for said in ["At least ", "There are more rules", "keyward rule list", "Everything else"] {
        assert!(rules.contains(said), "{said}: {rules}");
    }
    let asked = format!("GET /rules?agent=zeta&url=https%3A%2F%2F{HOST}%2Fuser");
    let tested = ask_at(&lab, &asked, &login.cookie(), "").await.text();
    assert!(tested.contains("group-of-bindings"), "{tested}");
    assert!(!tested.contains("is bound to no connection"), "{tested}");
    lab.finish().await;
}

/// Of more agents than a page of the API has, the page of a person reads only theirs.
#[tokio::test]
async fn a_search_for_the_id_of_a_person_finds_their_agents_and_no_others() {
    let mut lab = Lab::simple().await;
    user(&mut lab, "ann", "admin").await;
    let new = json!({"name": "of-ann", "owner": "ann"}).to_string();
    lab.gateway.api("POST", "/agents", &new).await.is(201);
    let ann = lab.gateway.api("GET", "/users/ann", "").await.json();
    let path = format!("/agents?q={}", ann["id"].as_str().expect("an id"));
    let found = lab.gateway.api("GET", &path, "").await.json();
    let names = found["items"].as_array().expect("a list").iter().map(|it| it["name"].clone());
    assert_eq!(names.collect::<Vec<_>>(), ["of-ann"]);
    lab.finish().await;
}

#[tokio::test]
async fn admins_set_the_providers_at_which_an_agent_serves_end_users() {
    let mut lab = Lab::simple().await;
    lab.add_agent("bot").await;
    for (name, role) in [("ann", "admin"), ("eve", "auditor")] {
        user(&mut lab, name, role).await;
    }
    let serves = json!({"user_providers": ["acme"]}).to_string();
    lab.gateway.api("PATCH", "/agents/bot", &serves).await.is(200);
    let (ann, eve) =
        (Login::of(&mut lab, "default", "ann").await, Login::of(&mut lab, "default", "eve").await);
    let page = async |login: &Login, agent: &str| {
        ask_at(&lab, &format!("GET /agents/{agent}"), &login.cookie(), "").await.is(200).text()
    };
    let field = r#"name="user_providers""#;
    let shown = page(&eve, "bot").await;
    assert!(shown.contains("connections of end users at") && !shown.contains(field), "{shown}");
    let of_file = page(&ann, "ci").await;
    assert!(!of_file.contains(field), "{of_file}");
    let edited = page(&ann, "bot").await;
    let (_, form) = edited.split_once("id=\"edit-end-users\"").expect("a form");
    assert!(form.contains(r#"data-api="PATCH /agents/bot""#) && form.contains(field), "{form}");
    assert!(form.contains(r#"value="acme""#) && form.contains("data-tag="), "{form}");
    lab.finish().await;
}

#[tokio::test]
async fn the_page_of_an_agent_has_its_settings_where_they_can_be_changed() {
    let mut lab = Lab::simple().await;
    lab.add_agent("bot").await;
    for (name, role) in [("ann", "admin"), ("bob", "member"), ("eve", "auditor")] {
        user(&mut lab, name, role).await;
    }
    let given = json!({ "environment": "production", "allow": ["pip"] }).to_string();
    lab.gateway.api("PATCH", "/agents/bot", &given).await.is(200);
    let (ann, eve) =
        (Login::of(&mut lab, "default", "ann").await, Login::of(&mut lab, "default", "eve").await);
    let page = async |login: &Login, agent: &str| {
        ask_at(&lab, &format!("GET /agents/{agent}"), &login.cookie(), "").await.text()
    };
    let field = r#"name="require_selection""#;
    for (login, agent) in [(&eve, "bot"), (&ann, "ci")] {
        let page = page(login, agent).await;
        assert!(!page.contains(field), "{agent}: {page}");
    }
    let edited = page(&ann, "bot").await;
    let (_, form) = edited.split_once("id=\"edit\"").expect("a form");
    let form = form.split("</form>").next().unwrap_or_default();
    assert!(
        form.contains(r#"data-api="PATCH /agents/bot""#) && form.contains("data-tag="),
        "{form}"
    );
    assert!(form.contains(field) && form.contains(r#"value="production""#), "{form}");
    assert!(form.contains(r#"name="allow""#) && form.contains(r#"value="pip""#), "{form}");
    let bob = Login::of(&mut lab, "default", "bob").await;
    let other = ask_at(&lab, "GET /agents/bot", &bob.cookie(), "").await.is(404).text();
    assert!(other.contains("or it belongs to another user"), "{other}");
    lab.finish().await;
}

/// An upgrade would leave the slot empty, or take another account.
#[tokio::test]
async fn the_connection_in_a_slot_is_preselected_also_if_the_list_is_truncated() {
    let mut lab = Lab::simple().await;
    user(&mut lab, "ann", "admin").await;
    lab.add_agent("bot").await;
    let fields = json!({"api_key": lab.canary.text});
    for name in (0..201).map(|number| format!("a-{number:03}")).chain(["zulu".to_owned()]) {
        let new = json!({"provider": "acme", "name": name, "fields": fields, "test": false});
        lab.gateway.api("POST", "/connections", &new.to_string()).await.is(201);
    }
    let manifest = json!({
        "plugin": "crm-digest", "version": "1.0.0", "connections": [{"slot": "crm", "provider": "acme"}],
    });
    let new = json!({"manifest": manifest, "agent": "bot", "slots": {"crm": "zulu"}}).to_string();
    let plugin = lab.gateway.api("POST", "/plugins", &new).await.is(201).json();
    let login = Login::of(&mut lab, "default", "ann").await;
    let line = format!("GET /plugins/{}", plugin["id"].as_str().expect("an id"));
    let page = ask_at(&lab, &line, &login.cookie(), "").await.text();
    assert!(page.contains(r#"<option value="zulu" selected"#), "{page}");
    assert!(page.contains("There are more accounts"), "{page}");
    lab.finish().await;
}

#[tokio::test]
async fn the_rules_of_one_agent_are_those_for_it_and_those_for_all() {
    let mut lab = Lab::simple().await;
    for rule in [
        json!({"name": "of-ci", "action": "deny", "agents": ["ci"], "methods": ["DELETE"]}),
        json!({"name": "of-all", "action": "deny", "methods": ["PUT"]}),
    ] {
        lab.gateway.api("POST", "/rules", &rule.to_string()).await.is(201);
    }
    lab.add_agent("bot").await;
    lab.gateway.api("GET", "/rules?agent=nope", "").await.is(404);
    let names = async |agent: &str| {
        let list = lab.gateway.api("GET", &format!("/rules?agent={agent}"), "").await.json();
        let all = list["items"].as_array().expect("a list").iter();
        let name = |rule: &Value| rule["name"].as_str().or(rule["id"].as_str()).map(str::to_owned);
        let names = all.filter_map(name).map(|name| match name.starts_with("binding:") {
            true => "binding".to_owned(),
            false => name,
        });
        names.collect::<Vec<_>>()
    };
    assert_eq!(names("bot").await, ["of-all", "default"]);
    assert_eq!(names("ci").await, ["of-ci", "of-all", "binding", "default"]);
    lab.finish().await;
}

#[tokio::test]
async fn only_admins_see_the_links_to_the_forms_of_rules() {
    let mut lab = Lab::simple().await;
    let rule = json!({"name": "no-puts", "action": "deny", "methods": ["PUT"]}).to_string();
    lab.gateway.api("POST", "/rules", &rule).await.is(201);
    for (name, role, edits) in
        [("ann", "admin", true), ("bob", "member", false), ("eve", "auditor", false)]
    {
        user(&mut lab, name, role).await;
        let login = Login::of(&mut lab, "default", name).await;
        let page = ask_at(&lab, "GET /rules", &login.cookie(), "").await.is(200).text();
        assert!(page.contains("no-puts"), "{role}: {page}");
        assert_eq!(page.contains("/rules/no-puts/edit"), edits, "{role}: {page}");
    }
    lab.finish().await;
}

/// The page of a refusal links to the form. With no agent ticked, the rule would be for all agents.
#[tokio::test]
async fn a_rule_for_an_agent_that_is_gone_names_it_and_is_refused() {
    let (lab, login) = admin_lab().await;
    let asked = format!("GET /rules?new=1&agent=old&host={HOST}&method=GET");
    let form = ask_at(&lab, &asked, &login.cookie(), "").await.text();
    assert!(form.contains(r#"value="old" data-each data-null checked"#), "{form}");
    let rule = json!({"agents": ["old"], "hosts": [HOST], "action": "pass"});
    lab.gateway.api("POST", "/rules", &rule.to_string()).await.is(404);
    lab.finish().await;
}

#[tokio::test]
async fn auditors_get_no_allow_button_and_members_find_no_page_of_sources() {
    let mut lab = Lab::simple().await;
    let mut logins = Vec::new();
    for (name, role) in [("ann", "admin"), ("bob", "member"), ("eve", "auditor")] {
        user(&mut lab, name, role).await;
        logins.push(Login::of(&mut lab, "default", name).await);
    }
    let [admin, member, auditor] = &logins[..] else { panic!("three") };
    let deny = json!({"name": "no-puts", "action": "deny", "methods": ["PUT"]}).to_string();
    lab.gateway.api("POST", "/rules", &deny).await.is(201);
    lab.ask("PUT /x\r\nContent-Length: 0").await.is(403);
    let exchange = until_some("a record", async || {
        let list = lab.gateway.api("GET", "/audit?refused=true&requests=true", "").await.json();
        list["items"][0]["exchange"].as_str().map(str::to_owned)
    })
    .await;
    let page = async |login: &Login, path: &str| {
        let answer = ask_at(&lab, &format!("GET {path}"), &login.cookie(), "").await;
        assert_eq!(answer.head.status(), 200, "{path}: {}", answer.text());
        answer.text()
    };
    let traffic = format!("/traffic/{exchange}");
    assert!(!page(auditor, &traffic).await.contains("Allow…"));
    assert!(page(admin, &traffic).await.contains("Allow…"));
    assert!(!page(member, "/find?q=secret").await.contains("/sources"));
    assert!(page(auditor, "/find?q=secret").await.contains("/sources"));
    lab.finish().await;
}

#[tokio::test]
async fn an_agent_that_a_person_paused_is_not_shown_as_paused_by_an_alarm() {
    let (lab, login) = admin_lab().await;
    lab.gateway.api("POST", "/agents/ci/pause", "").await.is(200);
    let agents = ask_at(&lab, "GET /agents", &login.cookie(), "").await.text();
    assert!(!agents.contains("paused by an alarm") && agents.contains("paused"), "{agents}");
    let agent = ask_at(&lab, "GET /agents/ci", &login.cookie(), "").await.text();
    assert!(!agent.contains("An alarm") && !agent.contains("A honeytoken"), "{agent}");
    assert!(agent.contains("A person paused this agent"), "{agent}");
    lab.finish().await;
}

/// A browser sends a form itself where the script is missing: blocked, not loaded yet, or that of another version.
#[tokio::test]
async fn a_form_sent_without_javascript_has_no_secret_in_its_url_and_changes_nothing() {
    let mut lab = Lab::simple().await;
    user(&mut lab, "ann", "admin").await;
    let mine = json!({ "provider": "acme", "name": "mine", "fields": { "api_key": "a-key-of-a-test-0123" } });
    lab.gateway.api("POST", "/connections", &mine.to_string()).await.is(201);
    let login = Login::of(&mut lab, "default", "ann").await;
    for path in [
        "/connect/to/acme",
        "/connections/mine",
        "/connections/mine/rotate",
        "/people/ann",
        "/sources/new?kind=bitwarden",
    ] {
        let page = ask_at(&lab, &format!("GET {path}"), &login.cookie(), "").await.text();
        let forms = page.split("<form").skip(1).filter_map(|form| form.split('>').next());
        let sent: Vec<_> = forms.filter(|form| form.contains(" data-api=")).collect();
        assert!(!sent.is_empty(), "{path}: {page}");
        for form in sent {
            assert!(form.contains(r#" method="post""#), "{path}: {form}");
        }
    }
    let key = "fields.api_key=another-key-of-a-test";
    let line = "POST /connections/mine/rotate";
    let answer = ask_at(&lab, line, &login.fields(), key).await.is(405);
    assert!(answer.head.has("content-security-policy"), "{:?}", answer.head);
    let text = answer.text();
    assert!(text.contains("Nothing was changed") && text.contains("JavaScript"), "{text}");
    lab.finish().await;
}

/// A browser removes the line breaks of what is pasted into an `input`, and PEM is read by lines. It shows what is typed into a
/// `textarea`, so a key that is a text of one line is asked for as a password.
#[tokio::test]
async fn only_keys_in_files_and_known_hosts_are_entered_in_fields_that_keep_line_breaks() {
    let (lab, login) = admin_lab().await;
    for (path, lines, one_line) in [
        ("kubernetes?auth=client_certificate", "client_cert client_key ca", ""),
        ("kubernetes?auth=token", "ca", "token"),
        ("ssh", "private_key known_hosts", "passphrase users"),
        ("coinbase", "private_key", "key_name"),
        ("vonage?auth=application", "private_key", "application_id"),
        ("ghost?auth=admin_key", "", "admin_key"),
    ] {
        let line = format!("GET /connect/to/{path}");
        let page = ask_at(&lab, &line, &login.cookie(), "").await.is(200).text();
        for (element, names) in [("textarea", lines), ("input", one_line)] {
            for name in names.split_whitespace() {
                let field = format!(r#"<{element} id="field-fields-{name}" name="fields.{name}""#);
                assert!(page.contains(&field), "{path}: {field} in {page}");
            }
        }
    }
    let page = ask_at(&lab, "GET /connect/to/ghost?auth=admin_key", &login.cookie(), "").await;
    let field = r#"name="fields.admin_key" type="password""#;
    assert!(page.text().contains(field), "{}", page.text());
    lab.finish().await;
}

/// The body of the request that the form on the page of a new key sends, without its fields, and the page.
async fn form_of_new_key(lab: &Lab, login: &Login, name: &str) -> (Value, String) {
    let line = format!("GET /connections/{name}/rotate");
    let page = ask_at(lab, &line, &login.cookie(), "").await.is(200).text();
    let (_, form) = page.split_once(" data-api=\"POST /connections/").expect("a form");
    let (form, _) = form.split_once('>').expect("its end");
    let body = form.split_once("data-body=\"").and_then(|(_, body)| body.split_once('"'));
    let body = body.map_or_else(|| "{}".to_owned(), |(body, _)| body.replace("&quot;", "\""));
    (serde_json::from_str(&body).expect("JSON"), page)
}

#[tokio::test]
async fn the_console_rotates_a_key_untested_where_no_test_request_is_known() {
    let mut lab = Plan::api_key().no_agents().start(Origin::saying("fine")).await;
    user(&mut lab, "ann", "admin").await;
    lab.add_agent("ci").await;
    let login = Login::of(&mut lab, "default", "ann").await;
    lab.add_mine(json!({})).await;
    lab.bind("ci", "mine").await;
    let (mut body, page) = form_of_new_key(&lab, &login, "mine").await;
    assert!(page.contains("It is not tested") && !page.contains("is asked whether"), "{page}");
    let new = Canary::new("newk");
    body["fields"] = json!({"api_key": new.text});
    let line = "POST /api/v1/connections/mine/rotate";
    let rotated = ask_at(&lab, line, &login.fields(), &body.to_string()).await.is(200).json();
    assert_eq!(rotated["test"], Value::Null, "{rotated}");
    let arrived = lab.delivered("GET /user").await;
    assert_eq!(arrived.one("x-api-key"), Some(&*new.text));
    lab.guard(new);
    lab.finish().await;
}

#[tokio::test]
async fn the_console_says_that_a_new_key_is_tested_where_a_test_request_is_known() {
    let test = format!("{{ method: GET, url: \"https://{HOST}/me\" }}");
    let mut lab = Plan::api_key().test(&test).start(Origin::saying("fine")).await;
    let login = user_login(&mut lab, "ann", "admin").await;
    lab.add_mine(json!({"test": false})).await;
    let (body, page) = form_of_new_key(&lab, &login, "mine").await;
    assert_eq!(body, json!({}));
    assert!(page.contains("is asked whether") && !page.contains("It is not tested"), "{page}");
    lab.finish().await;
}

#[tokio::test]
async fn the_console_offers_to_test_a_first_key_only_where_a_test_request_is_known() {
    let test = format!("{{ method: GET, url: \"https://{HOST}/me\" }}");
    for has_test in [false, true] {
        let plan = if has_test { Plan::api_key().test(&test) } else { Plan::api_key() };
        let mut lab = plan.start(Origin::saying("fine")).await;
        let login = user_login(&mut lab, "ann", "admin").await;
        let line = "GET /connect/to/acme";
        let page = ask_at(&lab, line, &login.cookie(), "").await.is(200).text();
        for (button, is_shown) in [("Connect", !has_test), ("Test and connect", has_test)] {
            let button = format!(r#"<button class="first">{button}</button>"#);
            assert_eq!(page.contains(&button), is_shown, "{button}: {page}");
        }
        assert_eq!(page.contains("is asked whether"), has_test, "{page}");
        assert_eq!(page.contains("It is not tested"), !has_test, "{page}");
        let (_, form) = page.split_once(" data-api=\"POST /connections\"").expect("a form");
        let (_, body) = form.split_once("data-body=\"").expect("a body");
        let (body, _) = body.split_once('"').expect("its end");
        let mut body: Value = serde_json::from_str(&body.replace("&quot;", "\"")).expect("JSON");
        let key = Canary::new("newk");
        body["name"] = json!("second");
        body["fields"] = json!({"api_key": key.text});
        let line = "POST /api/v1/connections";
        let made = ask_at(&lab, line, &login.fields(), &body.to_string()).await.is(201).json();
        assert_eq!(made["state"], "active", "{made}");
        let received = lab.origin.received();
        let keys: Vec<_> = received.iter().map(|it| it.head.one("x-api-key")).collect();
        let expected: &[_] = if has_test { &[Some(&*key.text)] } else { &[] };
        assert_eq!(keys, expected, "what the service is asked");
        lab.guard(key);
        lab.finish().await;
    }
}

#[tokio::test]
async fn the_back_link_of_a_plugin_s_accounts_page_keeps_the_manifest() {
    let (lab, login) = admin_lab().await;
    let manifest =
        "plugin: crm-digest\nversion: 1.0.0\nconnections:\n- slot: crm\n  provider: acme\n";
    let encoded: String = manifest.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let page = async |path: &str| {
        let answer = ask_at(&lab, &format!("GET {path}"), &login.cookie(), "").await;
        assert_eq!(answer.head.status(), 200, "{path}");
        answer.text()
    };
    let accounts = page(&format!("/plugins/new?agent=ci&manifest={encoded}")).await;
    assert!(accounts.contains("Which accounts may it use?"), "{accounts}");
    let link = accounts.split("href=\"").find(|link| link.contains(">Back<")).expect("a link");
    let back = link.split('"').next().expect("an address").replace("&amp;", "&");
    let first = page(&back).await;
    let field = first.split("<textarea").nth(1).expect("the field of the manifest");
    assert!(field.contains("plugin: crm-digest"), "{first}");
    lab.finish().await;
}

/// A stored secret is sent with no other client id. The form with the id had no field for the secret, so that each
/// change was refused.
#[tokio::test]
async fn the_console_replaces_the_id_of_a_client_together_with_its_secret() {
    let (mut lab, login) = admin_lab().await;
    let secrets = json!({"client_secret": Canary::new("old").text});
    let new = json!({"provider": "github", "name": "gh", "client_id": "old", "secrets": secrets});
    lab.gateway.api("POST", "/apps", &new.to_string()).await.is(201);
    let page = ask_at(&lab, "GET /apps/gh", &login.cookie(), "").await.is(200).text();
    let forms: Vec<_> = page.split("<form").skip(1).collect();
    let of_id: Vec<_> = forms.iter().filter(|form| form.contains(r#"name="client_id""#)).collect();
    assert!(matches!(of_id[..], [form] if form.contains(r#"name="secrets.client_secret""#)));
    let change = json!({"client_id": "new", "scopes": ["repo"]});
    let line = "PATCH /api/v1/apps/gh";
    let refused = ask_at(&lab, line, &login.fields(), &change.to_string()).await.is(422).json();
    assert_eq!(refused["error"]["field"], "secrets", "{refused}");
    let new = Canary::new("new");
    let change = json!({"client_id": "new", "secrets": {"client_secret": new.text}});
    let changed = ask_at(&lab, line, &login.fields(), &change.to_string()).await.is(200).json();
    assert_eq!(changed["client_id"], "new", "{changed}");
    let scopes = json!({"scopes": ["repo"]}).to_string();
    ask_at(&lab, line, &login.fields(), &scopes).await.is(200);
    lab.guard(new);
    lab.finish().await;
}

#[tokio::test]
async fn a_changed_email_address_ends_no_login_and_is_recorded_without_the_role() {
    let (lab, login) = admin_lab().await;
    for (role, status) in [("admin", 200), ("member", 401)] {
        let saved = json!({"role": role, "email": "ann@acme.test"}).to_string();
        lab.gateway.api("PATCH", "/users/ann", &saved).await.is(200);
        let session = ask_at(&lab, "GET /api/v1/session", &login.cookie(), "").await;
        assert_eq!(session.head.status(), status, "{role}: {}", session.text());
    }
    let records = lab.finish_with_changes().await;
    let changes = records.iter().map(|record| &record["change"]);
    let of_ann = changes.filter(|it| it["what"] == "user" && it["action"] == "changed");
    let why: Vec<_> = of_ann.map(|change| change["why"].clone()).collect();
    assert_eq!(why, [json!("e-mail address"), json!("role member")]);
}
