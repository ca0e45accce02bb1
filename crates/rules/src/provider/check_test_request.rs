//! Checks the test request of a provider file: method, host and names in templates.

use super::document::{Problems, item_of, key_of};
use super::field::Field;
use super::methods;
use super::own_hosts::OwnHosts;
use super::schema::TestText;

/// Checks the test request at `at`; its templates may name variables and `fields`.
pub(super) fn test_request(
    test: &TestText,
    fields: &[&Field],
    at: &str,
    own: &OwnHosts<'_>,
    problems: &mut Problems<'_>,
) {
    let method = test.method.as_deref().unwrap_or("GET");
    methods::method(method, &key_of(at, "method"), problems);
    if test.expect_status.is_some() && !test.rejects.is_empty() {
        let message = "`rejects` and `expect_status` exclude each other";
        problems.add(&key_of(at, "rejects"), message, "keep one");
    }
    url(&test.url, fields, &key_of(at, "url"), own, problems);
    for (index, other) in test.other_urls.iter().enumerate() {
        url(other, fields, &item_of(&key_of(at, "other_urls"), index), own, problems);
    }
}

fn url(url: &str, fields: &[&Field], at: &str, own: &OwnHosts<'_>, problems: &mut Problems<'_>) {
    let names = url.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
    for (name, _) in names {
        let known = own.variables.iter().any(|variable| variable.name == name)
            || fields.iter().any(|field| field.name == name);
        if !known {
            let message = format!("`{{{name}}}` is neither a variable nor a field");
            problems.add(at, message, "declare it under `variables`, or name a field");
        }
    }
    if let Some((host, _)) = own.url(url, at, problems)
        && !own.owns(&host)
    {
        let message = format!("`{host}` is not one of the provider's hosts");
        problems.add(at, message, "test on a host that `hosts` lists");
    }
}
