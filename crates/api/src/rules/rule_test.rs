//! `/rules/test`: expectations, compared with what `explain` tells of the rules in force. Addresses
//! are not looked up: rules are the same wherever they are tested.

use axum::Json;

use crate::body::Body;
use crate::context::Context;
use crate::error::ApiError;
use crate::explain;
use crate::openapi::Routes;
use crate::valid_rules::ValidRules;
use crate::wire::{
    ExplainRequest, Explanation, PredictedDecision, RuleCase, RuleTestReport, RuleTestRequest,
    RuleTested,
};
use keyward_rules::policy::explain::ActionKind;

pub(crate) fn routes() -> Routes {
    Routes::new().post("/rules/test", ["testRules", "Run tests of rules"], test)
}

async fn test(
    context: Context,
    _: ValidRules,
    Body(ask): Body<RuleTestRequest>,
) -> Result<Json<RuleTestReport>, ApiError> {
    let results = ask.cases.iter().map(|case| tested(&context, case)).collect();
    Ok(Json(RuleTestReport { results }))
}

fn tested(context: &Context, case: &RuleCase) -> RuleTested {
    match explain::decided(context, &explain_ask(case)) {
        Ok((told, _)) => {
            let became = became(told);
            let wrong = compared(case, &became);
            RuleTested { passed: wrong.is_empty(), wrong, became: Some(became) }
        }
        // Of one case: the others are still worth knowing.
        Err(error) => {
            let wrong = match &error {
                ApiError::Field { field, message, .. } => format!("{field}: {message}"),
                error => error.to_string(),
            };
            RuleTested { passed: false, wrong: vec![wrong], became: None }
        }
    }
}

fn explain_ask(case: &RuleCase) -> ExplainRequest {
    let request = case.request.trim();
    let (method, url) = match request.split_once(char::is_whitespace) {
        Some((method, url)) => (Some(method.to_owned()), url.trim_start()),
        None => (None, request),
    };
    ExplainRequest {
        agent: case.agent.clone(),
        session: None,
        method,
        url: url.to_owned(),
        connection: None,
        headers: case.headers.clone(),
        graphql: case.graphql.clone(),
        push: case.push.clone(),
    }
}

/// A stopped request counts as denied, regardless of the action of its rule.
fn became(told: Explanation) -> PredictedDecision {
    let stop = told.stopped_by.into_iter().next();
    let action = if stop.is_some() { ActionKind::Deny } else { told.action };
    let connection = told.connection.filter(|_| action == ActionKind::Inject);
    PredictedDecision {
        action,
        rule: told.rule,
        connection: connection.map(|connection| connection.name),
        code: stop.as_ref().map(|stop| stop.code.clone()),
        message: stop.map(|stop| stop.message),
    }
}

fn compared(case: &RuleCase, became: &PredictedDecision) -> Vec<String> {
    let mut wrong = Vec::new();
    if case.expect != became.action {
        let (expected, found) = (case.expect.as_str(), became.action.as_str());
        let why = became.message.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        wrong.push(format!("expected {expected}, got {found}{why}"));
    }
    let rule = became.rule.as_deref();
    if let Some(expected) = case.rule.as_deref().filter(|name| !is_rule(name, rule)) {
        let found = rule.map_or("none", |id| written_name(id).unwrap_or(id));
        wrong.push(format!("expected rule `{expected}`, got `{found}`"));
    }
    for (what, expected, found) in
        [("connection", &case.connection, &became.connection), ("code", &case.code, &became.code)]
    {
        if expected.is_some() && expected != found {
            let (expected, found) = (expected.as_deref(), found.as_deref());
            let (expected, found) = (expected.unwrap_or_default(), found.unwrap_or("none"));
            wrong.push(format!("expected {what} `{expected}`, got `{found}`"));
        }
    }
    wrong
}

/// The name in the label of a rule of the configuration or of a stored one.
fn written_name(label: &str) -> Option<&str> {
    label.strip_prefix("file:").or_else(|| label.strip_prefix("store:"))
}

/// Whether `name` is the id or the name of the deciding rule, or `binding` for any binding.
fn is_rule(name: &str, id: Option<&str>) -> bool {
    let Some(id) = id else { return false };
    id == name
        || written_name(id) == Some(name)
        || (name == "binding" && id.starts_with("binding:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(json: serde_json::Value) -> RuleCase {
        let mut whole = serde_json::json!({"agent": "ci", "request": "https://a.test/"});
        whole.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    fn refused() -> PredictedDecision {
        PredictedDecision {
            action: ActionKind::Deny,
            rule: Some("file:no-deletes".to_owned()),
            connection: None,
            code: Some("denied".to_owned()),
            message: Some("rule `no-deletes` denies this".to_owned()),
        }
    }

    #[test]
    fn a_failed_rule_test_lists_each_difference() {
        let injected = serde_json::json!({
            "expect": "inject", "rule": "gh-read", "connection": "work", "code": "other",
        });
        insta::assert_snapshot!(compared(&case(injected), &refused()).join("\n"), @r"
        expected inject, got deny: rule `no-deletes` denies this
        expected rule `gh-read`, got `no-deletes`
        expected connection `work`, got `none`
        expected code `other`, got `denied`
        ");
    }

    #[test]
    fn an_absent_expectation_is_not_compared() {
        for json in [
            serde_json::json!({"expect": "deny"}),
            serde_json::json!({"expect": "deny", "rule": "no-deletes"}),
            serde_json::json!({"expect": "deny", "rule": "file:no-deletes", "code": "denied"}),
        ] {
            assert_eq!(compared(&case(json), &refused()), [""; 0]);
        }
    }

    #[test]
    fn a_rule_is_not_taken_for_another_one() {
        for (name, id) in [
            ("deletes", Some("file:no-deletes")),
            ("binding", Some("file:bindings")),
            ("no-deletes", Some("binding:no-deletes")),
            ("default", None),
        ] {
            assert!(!is_rule(name, id), "{name}");
        }
        assert!(is_rule("no-deletes", Some("store:no-deletes")));
        assert!(is_rule("binding", Some("binding:con_1")) && is_rule("default", Some("default")));
    }

    #[test]
    fn a_request_is_a_url_with_an_optional_method_before_it() {
        let ask = |request: &str| {
            let ask = explain_ask(&case(serde_json::json!({"expect": "deny", "request": request})));
            (ask.method, ask.url)
        };
        let url = "https://a.test/x".to_owned();
        assert_eq!(ask("https://a.test/x"), (None, url.clone()));
        assert_eq!(ask(" DELETE  https://a.test/x "), (Some("DELETE".to_owned()), url));
    }
}
