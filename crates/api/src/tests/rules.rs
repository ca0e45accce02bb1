//! The list of rules: its pages, also when rules come and go between two of them, and rules of a newer version.

use super::*;
use keyward_model::{Rule, RuleFacts, RuleSpec};
use keyward_rules::policy::explain::ActionKind;

/// What a page lists, each rule by its name, connection or id, and the cursor of the next page.
async fn page(lab: &Lab, query: &str) -> (Vec<String>, String) {
    let (status, list) = lab.get(&format!("/api/v1/rules?{query}")).await;
    assert_eq!(status, StatusCode::OK, "{query}: {list}");
    let named = |rule: &Value| {
        let name = ["name", "use", "id"].iter().find_map(|key| rule[*key].as_str());
        format!("{} {}", rule["action"].as_str().unwrap(), name.unwrap())
    };
    let items = list["items"].as_array().unwrap().iter().map(named).collect();
    (items, list["next"].as_str().unwrap_or_default().to_owned())
}

/// A page of two rules after this one.
async fn next_two(lab: &Lab, after: &str) -> (Vec<String>, String) {
    page(lab, &format!("limit=2&after={after}")).await
}

async fn removed(lab: &Lab, path: &str) {
    let (status, body) = lab.delete(&format!("/api/v1/{path}")).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{path}: {body}");
}

#[tokio::test]
async fn a_stored_rule_that_is_removed_between_two_pages_hides_no_other() {
    let lab = Lab::new().await;
    for name in ["d", "c", "b", "a"] {
        let rule = json!({"name": name, "action": "deny", "methods": ["DELETE"], "first": true});
        assert_eq!(lab.post("/api/v1/rules", rule).await.0, StatusCode::CREATED);
    }
    let (first, next) = page(&lab, "limit=2").await;
    assert_eq!(first, ["deny a", "deny b"]);
    for gone in ["a", "b"] {
        removed(&lab, &format!("rules/{gone}")).await;
        let (second, _) = next_two(&lab, &next).await;
        assert_eq!(second, ["deny c", "deny d"], "{gone} is gone");
    }
    let (second, next) = next_two(&lab, &next).await;
    assert_eq!((second.len(), next_two(&lab, &next).await.0), (2, vec!["deny default".to_owned()]));
}

#[tokio::test]
async fn a_binding_that_ends_between_two_pages_hides_no_other_rule() {
    let lab = Lab::stocked().await;
    for name in ["home", "play"] {
        let new = json!({"provider": "github", "name": name, "fields": {"token": CANARY}});
        assert_eq!(lab.post("/api/v1/connections", new).await.0, StatusCode::CREATED);
    }
    for connection in ["work", "play", "home"] {
        let bind = json!({"connection": connection, "deny": ["delete"]});
        let (status, body) = lab.post("/api/v1/agents/ci/bindings", bind).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
    }
    let (status, body) = lab.patch("/api/v1/agents/ci", json!({"allow": ["packages"]})).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    // Each binding, and the set, gives several rules with one id.
    let (all, _) = page(&lab, "").await;
    let sets = all.iter().filter(|rule| rule.starts_with("pass allow:")).count();
    assert!(sets > 1 && all.len() == 6 + sets + 1, "{all:?}");
    let (mut seen, mut next) = page(&lab, "limit=2").await;
    for gone in ["home", "play"] {
        removed(&lab, &format!("agents/ci/bindings/{gone}")).await;
        let (more, cursor) = next_two(&lab, &next).await;
        seen.extend(more);
        next = cursor;
    }
    while !next.is_empty() {
        let (more, cursor) = next_two(&lab, &next).await;
        seen.extend(more);
        next = cursor;
    }
    // Both rules of `play`, and the first one of `home`, were listed before they were gone.
    let kept: Vec<_> = all.into_iter().filter(|rule| rule != "inject home").collect();
    assert_eq!(seen, kept);
}

#[tokio::test]
async fn a_position_or_other_text_is_no_cursor_of_the_list_of_rules() {
    let lab = Lab::stocked().await;
    for bad in ["00000001", "1", "x", "7,x"] {
        let (status, body) = lab.get(&format!("/api/v1/rules?after={bad}")).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}: {body}");
        assert_eq!(body["error"]["field"], "after", "{bad}: {body}");
        assert_eq!(body["error"]["code"], "invalid_field", "{bad}: {body}");
    }
}

#[tokio::test]
async fn a_rule_with_a_condition_of_a_newer_version_says_so_and_is_not_changed_here() {
    let lab = Lab::new().await;
    let (name, action) = (Some("pass".to_owned()), Some(ActionKind::Pass));
    let spec = RuleSpec { name, action, ..RuleSpec::default() };
    let facts = RuleFacts { position: 0, unknown: vec!["curfew".to_owned()] };
    let deps = lab.admin.deps();
    deps.directory.add::<Rule>(&OrgId::default_org(), ManagedBy::Store, spec, facts).await.unwrap();
    let (_, rule) = lab.get("/api/v1/rules/pass").await;
    let warning = rule["warnings"][0].as_str().unwrap_or_default();
    assert!(warning.starts_with("curfew: a newer version of keyward"), "{rule}");
    let (status, _) = lab.patch("/api/v1/rules/pass", json!({"methods": ["GET"]})).await;
    assert!(status.is_client_error(), "{status}");
    let other = json!({"name": "other", "action": "deny", "hosts": ["a.test"]});
    assert_eq!(lab.post("/api/v1/rules", other).await.0, StatusCode::CREATED);
    assert_eq!(lab.delete("/api/v1/rules/pass").await.0, StatusCode::NO_CONTENT);
}
