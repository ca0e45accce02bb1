//! [`ActionScope`]: a part of a provider's API by host, method, path, query and GraphQL operations. A named action, such
//! as `clone`, is a list of them. Providers declare actions, rules name them, `policy` matches requests.

use http::Method;

use crate::aws_host;
use crate::git_push::{PushUnclear, RequestedPush};
use crate::graphql::{NotUnderstood, OperationScope, RequestedOperations, RootField};
use crate::inject::names::{decoded, may_be_name};
use keyward_base::host::Target;
use keyward_base::pattern::{DecodedPath, HostPattern, LetterCase, PathPattern};

/// Requests that belong to an action.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ActionScope {
    /// The hosts; empty means all of the rule's.
    pub hosts: Vec<HostPattern>,
    /// The services of AWS whose hosts these are, in any region; empty means all hosts.
    pub aws_services: Vec<Box<str>>,
    /// The methods; empty means all. Case is ignored, as lenient servers do.
    pub methods: Vec<Method>,
    /// The paths; empty means all.
    pub paths: Vec<PathPattern>,
    /// Parameters that the query has, decoded: names and values.
    pub query: Vec<(Box<str>, Box<str>)>,
    /// Parameters of which the query has one, with any value; empty means that it needs none.
    pub any_query: Vec<Box<str>>,
    /// Parameters that the query does not have, because they change what the request does. They do not count for
    /// [`ScopeShare::Any`]: a parameter takes no request out of what is denied.
    pub without_query: Vec<Box<str>>,
    /// All parameters that the query may have, of which `x-*` is several; empty means any. They do not count for
    /// [`ScopeShare::Any`] either.
    pub only_query: Vec<Box<str>>,
    /// Whether pushes by git with options (`git push -o`) belong to it.
    pub push_options: PushOptions,
    /// The GraphQL operations that belong to it; `None`: the body does not matter.
    pub graphql: Option<OperationScope>,
    /// Whether its requests are known to do what the action does.
    pub kind: ScopeKind,
}

/// Whether pushes by git with push options belong to a scope. By them, a service may do more than the push.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PushOptions {
    /// Yes.
    #[default]
    With,
    /// No. It does not count for [`ScopeShare::Any`].
    Without,
    /// Yes, and no other requests do.
    Only,
}

/// How the requests of a scope do what the action does.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ScopeKind {
    /// They belong to the action.
    #[default]
    Own,
    /// They can do it, and more: a batch, whose body has requests of any kind, or another form of the API. Only rules that
    /// deny are for them.
    Indirect,
}

/// How much of a request must belong to scopes. A request with GraphQL has several parts, any other has one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ScopeShare {
    /// All parts: for rules that allow.
    All,
    /// Any part: for rules that deny. What only some servers read as a part of a scope counts, too.
    Any,
}

impl ScopeShare {
    /// How letters of paths are compared. GitHub, for one, ignores the case of owners and repositories.
    pub fn letter_case(self) -> LetterCase {
        match self {
            Self::All => LetterCase::Distinct,
            Self::Any => LetterCase::Ignored,
        }
    }

    /// Whether the pattern matches the target. A service may speak cleartext at 443.
    fn matches_host(self, pattern: &HostPattern, target: &Target) -> bool {
        match self {
            Self::All => pattern.matches(target),
            Self::Any => pattern.matches_any_scheme(target),
        }
    }
}

/// A request as scopes see it.
#[derive(Clone, Copy, Debug)]
pub struct ScopedRequest<'a> {
    pub target: &'a Target,
    pub method: &'a Method,
    pub path: &'a DecodedPath,
    /// The query as it is sent, without `?`.
    pub query: Option<&'a str>,
    /// The GraphQL operations of the body.
    pub operations: RequestedOperations<'a>,
    /// What a push by git changes.
    pub push: RequestedPush<'a>,
}

/// Servers read a request in two ways, or its body was not read, and a scope depends on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unclear {
    /// The path has two readings.
    Path,
    /// The path has a credential, on whose characters the scope depends.
    CredentialInPath,
    /// A parameter is given several times, or is separated by `;`.
    Query,
    /// The body must be read first.
    BodyUnread,
    /// The GraphQL operations of the body are not known.
    Operations(NotUnderstood),
    /// What the push changes is not known.
    Push(PushUnclear),
    /// The request is in an [`Indirect`](ScopeKind::Indirect) scope.
    Indirect,
}

/// Whether the request belongs to the scopes. Each of its GraphQL operations may belong to another one.
///
/// # Errors
/// When servers may read the request in two ways, one of which belongs to a scope. Where a part is enough, also when the
/// request may do indirectly what a scope is for.
pub fn belongs(
    scopes: &[ActionScope],
    request: ScopedRequest<'_>,
    share: ScopeShare,
) -> Result<bool, Unclear> {
    let of = |kind| {
        let scopes = scopes.iter().filter(move |scope| scope.kind == kind);
        belongs_to_some(scopes, request, share)
    };
    match of(ScopeKind::Own)? {
        false if share == ScopeShare::Any && of(ScopeKind::Indirect)? => Err(Unclear::Indirect),
        belongs => Ok(belongs),
    }
}

fn belongs_to_some<'a>(
    scopes: impl Iterator<Item = &'a ActionScope>,
    request: ScopedRequest<'_>,
    share: ScopeShare,
) -> Result<bool, Unclear> {
    let (mut unclear, mut graphql) = (None, Vec::new());
    for scope in scopes {
        match (scope.has_head(request, share), &scope.graphql) {
            (Ok(false), _) => {}
            (Ok(true), None) => return Ok(true),
            (Ok(true), Some(operations)) => graphql.push(operations),
            (Err(why), _) => unclear = Some(why),
        }
    }
    let covers = |field: &RootField| graphql.iter().any(|scope| scope.covers(field));
    let suffices = |field: &RootField| graphql.iter().any(|scope| scope.suffices(field));
    match request.operations {
        _ if graphql.is_empty() => {}
        _ if !is_same(&Method::POST, request.method) => {
            unclear = Some(Unclear::Operations(NotUnderstood::Method));
        }
        RequestedOperations::Unread => return Err(Unclear::BodyUnread),
        RequestedOperations::Unclear(why) => unclear = Some(Unclear::Operations(why)),
        RequestedOperations::Known(operations) => {
            let belongs = match share {
                ScopeShare::All => operations.fields().all(suffices),
                ScopeShare::Any => operations.fields().any(covers),
            };
            if belongs {
                return Ok(true);
            }
        }
    }
    unclear.map_or(Ok(false), Err)
}

impl ActionScope {
    /// Whether the request belongs to it, apart from its body.
    fn has_head(&self, request: ScopedRequest<'_>, share: ScopeShare) -> Result<bool, Unclear> {
        let is_method = |one: &Method| is_same(one, request.method);
        let is_host = |host: &HostPattern| share.matches_host(host, request.target);
        let here = self.hosts.is_empty() || self.hosts.iter().any(is_host);
        // Services take operations from the URL of a GET, from the body of a PUT, and from a WebSocket too.
        let by_any_method = self.graphql.is_some() && share == ScopeShare::Any;
        let this_way =
            by_any_method || self.methods.is_empty() || self.methods.iter().any(is_method);
        let query = request.query.unwrap_or_default();
        Ok(here
            && self.is_of_service(request.target)
            && this_way
            && self.has_path(request.path, share)?
            && self.has_query(query, share)?
            && self.has_any(query, share)?
            && self.has_push_options(request, share)?
            && (share == ScopeShare::Any || self.lacks_query(query)? && self.has_only(query)))
    }

    fn is_of_service(&self, target: &Target) -> bool {
        let named = || target.host().name().and_then(aws_host::api_of);
        self.aws_services.is_empty()
            || named().is_some_and(|name| self.aws_services.iter().any(|it| **it == *name))
    }

    fn has_path(&self, path: &DecodedPath, share: ScopeShare) -> Result<bool, Unclear> {
        let case = share.letter_case();
        let plain = if share == ScopeShare::Any { path.without_format() } else { None };
        let readings = || std::iter::once(path).chain(&plain);
        let matches = |pattern: &PathPattern| readings().any(|it| pattern.matches_in(it, case));
        let may_match = |pattern: &PathPattern| readings().any(|it| pattern.may_match(it, case));
        match &self.paths[..] {
            [] => Ok(true),
            // These scopes are for other methods than the rest of the action, which must not make each `group%2Fname`
            // unclear: the endpoint may be elsewhere for certain.
            paths
                if share == ScopeShare::Any
                    && (self.kind == ScopeKind::Indirect || self.graphql.is_some())
                    && !paths.iter().any(may_match) =>
            {
                Ok(false)
            }
            _ if path.ambiguous() => Err(Unclear::Path),
            paths if paths.iter().any(matches) => Ok(true),
            paths if path.is_masked() && paths.iter().any(may_match) => {
                Err(Unclear::CredentialInPath)
            }
            _ => Ok(false),
        }
    }

    fn has_push_options(
        &self,
        request: ScopedRequest<'_>,
        share: ScopeShare,
    ) -> Result<bool, Unclear> {
        let ScopedRequest { method, path, push, .. } = request;
        let without = match self.push_options {
            PushOptions::With => return Ok(true),
            PushOptions::Without if share == ScopeShare::Any => return Ok(true),
            PushOptions::Without => true,
            PushOptions::Only => false,
        };
        if !RequestedPush::is_push(method, path) {
            // A server may find the service in another reading of the path.
            let may_be = RequestedPush::may_be_push(method, path);
            return if may_be { Err(Unclear::Path) } else { Ok(without) };
        }
        let unclear = |why: Option<_>| why.map_or(Unclear::BodyUnread, Unclear::Push);
        push.refs_alone().map(|_| without).map_err(unclear)
    }

    fn has_query(&self, query: &str, share: ScopeShare) -> Result<bool, Unclear> {
        for (name, value) in &self.query {
            if !has_given(query, name, Some(value), share)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn has_any(&self, query: &str, share: ScopeShare) -> Result<bool, Unclear> {
        let mut has = Ok(self.any_query.is_empty());
        for name in &self.any_query {
            match has_given(query, name, None, share) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                unclear => has = unclear,
            }
        }
        has
    }

    fn lacks_query(&self, query: &str) -> Result<bool, Unclear> {
        for name in &self.without_query {
            match [&['&'][..], &['&', ';']].map(|at| may_have_name(query, at, name)) {
                [false, false] => {}
                [true, true] => return Ok(false),
                _ => return Err(Unclear::Query),
            }
        }
        Ok(true)
    }

    /// Servers that also split at `;` find names there that are in no list.
    fn has_only(&self, query: &str) -> bool {
        let is_listed = |given: String| {
            self.only_query.iter().any(|name| match name.strip_suffix('*') {
                Some(beginning) => given.starts_with(beginning),
                None => given == **name,
            })
        };
        let mut given = parameters(query, &['&', ';']).filter(|pair| *pair != ("", ""));
        self.only_query.is_empty() || given.all(|(name, _)| is_listed(decoded(name)))
    }
}

/// Whether the methods are the same for lenient servers.
fn is_same(method: &Method, other: &Method) -> bool {
    method.as_str().eq_ignore_ascii_case(other.as_str())
}

/// The parameters of a query, as they are written.
fn parameters<'a>(
    query: &'a str,
    separators: &'a [char],
) -> impl Iterator<Item = (&'a str, &'a str)> {
    query.split(separators).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Whether some server reads the value as `value`: servers ignore case and surrounding spaces, some cut at a NUL.
fn may_be_value(given: &str, value: &str) -> bool {
    let given = decoded(given);
    let given = given.split('\0').next().unwrap_or_default();
    given.trim().eq_ignore_ascii_case(value)
}

fn may_have_name(query: &str, separators: &[char], name: &str) -> bool {
    parameters(query, separators).any(|(given, _)| may_be_name(&decoded(given), name))
}

/// Whether the query has the parameter with this value; `None` is any.
fn has_given(
    query: &str,
    name: &str,
    value: Option<&str>,
    share: ScopeShare,
) -> Result<bool, Unclear> {
    // Some servers also split at `;` (HTML 4.01, appendix B.2.2).
    match [&['&'][..], &['&', ';']].map(|at| has_parameter(query, at, name, value)) {
        [Some(true), Some(true)] => Ok(true),
        [Some(false), Some(false)] => {
            Ok(share == ScopeShare::Any && may_have_parameter(query, name, value))
        }
        _ => Err(Unclear::Query),
    }
}

fn may_have_parameter(query: &str, name: &str, value: Option<&str>) -> bool {
    let is_meant = |text| value.is_none_or(|value| may_be_value(text, value));
    parameters(query, &['&', ';'])
        .any(|(given, text)| may_be_name(&decoded(given), name) && is_meant(text))
}

/// The same as servers read it that split the query there. `None` if they may also read another value: they take the first
/// or the last.
fn has_parameter(
    query: &str,
    separators: &[char],
    name: &str,
    value: Option<&str>,
) -> Option<bool> {
    let given =
        parameters(query, separators).filter(|(given, _)| may_be_name(&decoded(given), name));
    let is_meant = |text| value.is_none_or(|value| decoded(text) == value);
    let mut found = given.map(|(given, text)| decoded(given) == name && is_meant(text));
    let first = found.next().unwrap_or(false);
    found.all(|other| other == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::host::Scheme;

    fn scope() -> ActionScope {
        ActionScope {
            hosts: vec![HostPattern::parse("git.test").unwrap()],
            aws_services: Vec::new(),
            methods: vec![Method::GET],
            paths: vec![PathPattern::parse("/*/*/info/refs").unwrap()],
            query: vec![("service".into(), "git-upload-pack".into())],
            any_query: Vec::new(),
            without_query: vec!["method".into()],
            only_query: Vec::new(),
            push_options: PushOptions::With,
            graphql: None,
            kind: ScopeKind::Own,
        }
    }

    fn covers(scope: &ActionScope, line: &str) -> Result<bool, Unclear> {
        shares(scope, line, ScopeShare::All)
    }

    fn shares(scope: &ActionScope, line: &str, share: ScopeShare) -> Result<bool, Unclear> {
        let (method, url) = line.split_once(' ').unwrap();
        let (host, rest) = url.split_at(url.find('/').unwrap());
        let (path, query) = rest.split_once('?').map_or((rest, None), |(p, q)| (p, Some(q)));
        let request = ScopedRequest {
            target: &Target::parse(Scheme::Https, host).unwrap(),
            method: &method.parse().unwrap(),
            path: &DecodedPath::parse(path).unwrap(),
            query,
            operations: RequestedOperations::Unread,
            push: RequestedPush::Unread,
        };
        belongs(std::slice::from_ref(scope), request, share)
    }

    #[test]
    fn a_request_with_another_host_method_path_or_query_is_outside_the_scope() {
        for line in [
            "GET evil.test/o/r/info/refs?service=git-upload-pack",
            "POST git.test/o/r/info/refs?service=git-upload-pack",
            "GET git.test/o/info/refs?service=git-upload-pack",
            "GET git.test/o/r/info/refs?service=git-receive-pack",
            "GET git.test/o/r/info/refs?service=git-upload-packs",
            "GET git.test/o/r/info/refs?Service=git-upload-pack",
            "GET git.test/o/r/info/refs?service",
            "GET git.test/o/r/info/refs",
            "GET git.test/o/r/info/refs?service=git-upload-pack&method=delete",
            "GET git.test/o/r/info/refs?METHOD&service=git-upload-pack",
            "GET git.test/o/r/info/refs?service=git-upload-pack&m%65thod[]=delete",
            "GET git.test/o/r/info/refs?service=git-upload-pack&+method%00x=delete",
        ] {
            assert_eq!(covers(&scope(), line), Ok(false), "{line}");
        }
    }

    #[test]
    fn a_request_that_servers_may_read_otherwise_is_unclear() {
        for line in [
            "GET git.test/o/r/info/refs?service=git-upload-pack&service=git-receive-pack",
            "GET git.test/o/r/info/refs?service=git-receive-pack&service=git-upload-pack",
            "GET git.test/o/r/info/refs?service=git-upload-pack;service=git-receive-pack",
            "GET git.test/o/r/info/refs?a=1;service=git-upload-pack",
            "GET git.test/o/r/info/refs?service=git-upload-pack;a=1",
            "GET git.test/o/r/info/refs?service=git-upload-pack&a=1;method=delete",
            "GET git.test/o/r/info/refs?service=git-upload-pack&Service=git-receive-pack",
            "GET git.test/o/r/info/refs?SERVICE=git-receive-pack&service=git-upload-pack",
            "GET git.test/o/r/info/refs?service=git-upload-pack&service[]=git-receive-pack",
        ] {
            assert_eq!(covers(&scope(), line), Err(Unclear::Query), "{line}");
        }
        let path = "GET git.test/o%2fr/r/info/refs?service=git-upload-pack";
        assert_eq!(covers(&scope(), path), Err(Unclear::Path));
    }

    #[test]
    fn an_excluded_parameter_does_not_exempt_a_request_from_a_denied_action() {
        let delete = ActionScope {
            methods: vec![Method::DELETE],
            paths: vec![PathPattern::parse("/v1/*").unwrap()],
            query: Vec::new(),
            ..scope()
        };
        let any = |line: &str| shares(&delete, line, ScopeShare::Any);
        for line in ["DELETE git.test/v1/x?method=delete", "DELETE git.test/v1/x?a=1;METHOD"] {
            assert_eq!(any(line), Ok(true), "{line}");
            assert_ne!(covers(&delete, line), Ok(true), "{line}: no rule that allows is for it");
        }
        for line in ["GET git.test/v1/x?method=delete", "DELETE git.test/v2/x?method=delete"] {
            assert_eq!(any(line), Ok(false), "{line}");
        }
        assert_eq!(any("DELETE git.test/v1/x"), Ok(true));
    }

    #[test]
    fn another_case_of_a_path_does_not_exempt_a_request_from_a_denied_action() {
        let delete = ActionScope {
            methods: vec![Method::DELETE],
            paths: vec![PathPattern::parse("/repos/*/x-*").unwrap()],
            query: Vec::new(),
            ..scope()
        };
        for path in ["/Repos/o/x-1", "/repos/o/X-1", "/REPOS/%6F/X-1"] {
            let line = format!("DELETE git.test{path}");
            assert_eq!(shares(&delete, &line, ScopeShare::Any), Ok(true), "{path}");
            assert_eq!(covers(&delete, &line), Ok(false), "{path}: no rule that allows is for it");
        }
        for path in ["/repo/o/x-1", "/repos/o/y-1"] {
            let line = format!("DELETE git.test{path}");
            assert_eq!(shares(&delete, &line, ScopeShare::Any), Ok(false), "{path}");
        }
    }

    #[test]
    fn the_port_of_the_other_scheme_does_not_exempt_a_request_from_a_denied_action() {
        let line = "GET git.test:80/o/r/info/refs?service=git-upload-pack";
        assert_eq!(shares(&scope(), line, ScopeShare::Any), Ok(true));
        assert_eq!(covers(&scope(), line), Ok(false));
        let line = line.replace(":80", ":8443");
        assert_eq!(shares(&scope(), &line, ScopeShare::Any), Ok(false));
    }

    /// What some server reads as the denied parameter is denied, or refused as unclear.
    #[test]
    fn no_spelling_of_a_parameter_exempts_a_request_from_a_denied_action() {
        let void = ActionScope {
            methods: vec![Method::POST],
            paths: Vec::new(),
            query: vec![("operation".into(), "delete".into())],
            without_query: Vec::new(),
            ..scope()
        };
        let any = |query: &str| {
            let line = format!("POST git.test/v3/invoice?{query}");
            shares(&void, &line, ScopeShare::Any)
        };
        for query in [
            "operation=delete",
            "%6Fperation=del%65te",
            "operation=delete&operation=delete",
            "Operation=delete",
            "operation=DELETE",
            "a=1&OPERATION=Delete",
            "+operation=delete",
            "operation%00x=delete",
            "operation[]=delete",
            "operation=delete%00",
            "operation=+delete%20",
            "operation=update&Operation=delete",
            "operation=update&a=1;Operation=delete",
        ] {
            assert_eq!(any(query), Ok(true), "{query}");
        }
        for query in [
            "operation=update&operation=delete",
            "operation=delete&operation=update",
            "operation=delete&Operation=update",
            "operation=update;operation=delete",
            "a=1;operation=delete",
            "operation=delete;a=1",
        ] {
            assert_eq!(any(query), Err(Unclear::Query), "{query}");
        }
        for query in ["", "operation=update", "operation", "operations=delete", "a=operation"] {
            assert_eq!(any(query), Ok(false), "{query}");
        }
        let of_list = ActionScope { query: vec![("a[b]".into(), "c".into())], ..scope() };
        let line = "GET git.test/o/r/info/refs?a[b]=c";
        assert_eq!(covers(&of_list, line), Ok(true), "a bracket in a name that is meant");
    }

    #[test]
    fn one_of_the_parameters_of_any_query_is_given_with_any_value() {
        let any_query = vec!["acl".into(), "delete".into()];
        let scope =
            ActionScope { any_query, methods: vec![Method::POST], ..ActionScope::default() };
        let of = |query: &str, share| shares(&scope, &format!("POST git.test/?{query}"), share);
        for query in ["", "deleted", "a=delete", "x-delete=", "delete/"] {
            assert_eq!(of(query, ScopeShare::Any), Ok(false), "{query}");
            assert_eq!(of(query, ScopeShare::All), Ok(false), "{query}");
        }
        for query in ["delete", "delete=", "delete=1", "a=b&delete", "%64elete", "delete&delete=1"]
        {
            assert_eq!(of(query, ScopeShare::Any), Ok(true), "{query}");
            assert_eq!(of(query, ScopeShare::All), Ok(true), "{query}");
        }
        assert_eq!(of("Delete", ScopeShare::Any), Ok(true), "another spelling");
        assert_eq!(of("Delete", ScopeShare::All), Ok(false), "another spelling");
        assert_eq!(of("a=b;delete", ScopeShare::Any), Err(Unclear::Query));
        assert_eq!(of("acl&a=b;delete", ScopeShare::Any), Ok(true), "the other one is given");
    }

    #[test]
    fn a_parameter_beside_those_of_a_list_takes_a_request_out_of_what_is_allowed_only() {
        let only_query = vec!["part".into(), "X-Amz-*".into()];
        let scope =
            ActionScope { only_query, methods: vec![Method::PUT], ..ActionScope::default() };
        let of = |query: &str, share| shares(&scope, &format!("PUT git.test/a?{query}"), share);
        for query in
            ["acl", "part=1&acl", "part=1;acl", "Part=1", "x-amz-a", "%61cl=", "=acl", "part[]=1"]
        {
            assert_eq!(of(query, ScopeShare::All), Ok(false), "{query}");
            assert_eq!(of(query, ScopeShare::Any), Ok(true), "{query}");
        }
        for query in ["", "part=1", "part=acl&X-Amz-Date=1&", "%70art", "X-Amz-"] {
            assert_eq!(of(query, ScopeShare::All), Ok(true), "{query}");
        }
    }

    #[test]
    fn a_service_of_aws_is_found_at_its_hosts_in_every_region() {
        let aws_services = vec!["s3".into()];
        let scope = ActionScope { aws_services, ..ActionScope::default() };
        for host in
            ["lambda.eu-west-1.amazonaws.com", "s3.test", "s3.amazonaws.com.test", "1.2.3.4"]
        {
            assert_eq!(covers(&scope, &format!("GET {host}/a")), Ok(false), "{host}");
        }
        for host in ["s3.amazonaws.com", "b.s3.xx-new-9.amazonaws.com"] {
            assert_eq!(covers(&scope, &format!("GET {host}/a//b;c")), Ok(true), "{host}");
        }
    }

    #[test]
    fn an_indirect_request_belongs_to_no_action_and_is_unclear_where_the_action_is_denied() {
        let paths = vec![PathPattern::parse("/batch/**").unwrap()];
        let batch = ActionScope { paths, kind: ScopeKind::Indirect, ..ActionScope::default() };
        for line in ["POST git.test/batch/v1", "GET git.test/Batch"] {
            assert_eq!(shares(&batch, line, ScopeShare::Any), Err(Unclear::Indirect), "{line}");
            assert_eq!(covers(&batch, line), Ok(false), "{line}: no rule that allows is for it");
        }
        assert_eq!(shares(&batch, "POST git.test/v1/batch", ScopeShare::Any), Ok(false));
    }

    #[test]
    fn encoded_parameter_names_and_values_are_decoded() {
        for line in [
            "GET git.test/o/r/info/refs?service=git-upload-pack",
            "get git.test/o/r/info/refs?a=b&service=git-upload-pack&c",
            "GET git.test/o/r/info/refs?methods=a&a=method&service=git-upload-pack",
            "GET git.test/o/r/info/refs?serv%69ce=git%2dupload-pack",
            "GET git.test/o/r/info/refs?service=git-upload-pack&service=git-upload-pack",
        ] {
            assert_eq!(covers(&scope(), line), Ok(true), "{line}");
        }
    }

    #[test]
    fn a_scope_that_names_only_hosts_covers_every_request_to_them() {
        let all = ActionScope { hosts: scope().hosts, ..ActionScope::default() };
        assert_eq!(covers(&all, "DELETE git.test/x;y?service=a&service=b"), Ok(true));
        assert_eq!(covers(&all, "GET evil.test/"), Ok(false));
    }
}
