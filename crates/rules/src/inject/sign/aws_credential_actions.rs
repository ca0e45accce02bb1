//! The actions of AWS whose answers contain credentials: `aws_credential_actions.tsv`.

use std::sync::LazyLock;

use keyward_base::pattern::{DecodedPath, LetterCase, PathPattern};

/// An action whose answer contains credentials.
pub(super) struct CredentialAction {
    service: &'static str,
    pub(super) name: &'static str,
    route: Route,
}

/// Where requests name the action, beside `X-Amz-Target`, `?Action=` and the path of CBOR, which are read for all services.
enum Route {
    /// The parameter `Action` of the body, which has to be whole.
    Body,
    /// Nowhere else.
    None,
    /// Method and path, and a parameter if the path has several actions.
    Rest { method: &'static str, path: PathPattern, parameter: Option<&'static str> },
}

static ACTIONS: LazyLock<Vec<CredentialAction>> = LazyLock::new(|| {
    let lines = include_str!("aws_credential_actions.tsv").lines();
    let rows = lines.filter(|line| !line.starts_with('#'));
    rows.map(|row| CredentialAction::read(row).expect("the table is sound: a test reads it"))
        .collect()
});

impl CredentialAction {
    fn read(row: &'static str) -> Option<Self> {
        let mut columns = row.split('\t');
        let (service, name) = (columns.next()?, columns.next()?);
        let route = match columns.next()? {
            "query" => Route::Body,
            "-" => Route::None,
            route => {
                let (method, target) = route.split_once(' ')?;
                let (path, parameter) = target
                    .split_once('?')
                    .map_or((target, None), |(path, name)| (path, Some(name)));
                Route::Rest { method, path: PathPattern::parse(path).ok()?, parameter }
            }
        };
        Some(Self { service, name, route })
    }

    /// Whether the request is of the route, by its method, path and parameters.
    pub(super) fn has_route(
        &self,
        method: &str,
        path: &DecodedPath,
        has_parameter: impl Fn(&str) -> bool,
    ) -> bool {
        let Route::Rest { method: named, path: pattern, parameter } = &self.route else {
            return false;
        };
        named.eq_ignore_ascii_case(method)
            && pattern.may_match(path, LetterCase::Ignored)
            && parameter.is_none_or(has_parameter)
    }
}

/// The actions of a service, by its name in signatures or `s3-control`.
pub(super) fn actions_of<'a>(
    service: &'a str,
) -> impl Iterator<Item = &'static CredentialAction> + 'a {
    ACTIONS.iter().filter(move |action| action.service == service)
}

/// Whether the action of requests to `service` is in their bodies.
pub(super) fn reads_body(service: &str) -> bool {
    actions_of(service).any(|action| matches!(action.route, Route::Body))
}
