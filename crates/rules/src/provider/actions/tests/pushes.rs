//! Pushes by git with options, by the actions of GitLab, Forgejo and GitHub.

use super::*;
use crate::git_push::PushUnclear;

#[test]
fn a_push_with_options_is_refused_where_these_can_do_what_is_denied_or_not_allowed() {
    let catalogue = Catalogue::built_in();
    let decided = |id: &str, action: &str, line: &str, push: RequestedPush<'_>, share| {
        let provider = catalogue.get(id).unwrap();
        let scopes = provider.action(action, &examples(provider)).unwrap().unwrap();
        let line = with_host(provider, line);
        let Line { method, target, path, query, .. } = Line::parse(&line);
        let (target, method, path) = (&target, &method, &path);
        let operations = RequestedOperations::Unread;
        let request = ScopedRequest { target, method, path, query, operations, push };
        belongs(&scopes, request, share)
    };
    let push = "POST /g/r.git/git-receive-pack";
    let with_options = RequestedPush::Unclear(PushUnclear::Options);
    let refused = Err(Unclear::Push(PushUnclear::Options));
    let refs = PushedRefs::default();
    let plain = RequestedPush::Known(&refs);
    for action in ["merge", "approve", "write-merge-requests"] {
        let of = |line, push| decided("gitlab", action, line, push, ScopeShare::Any);
        assert_eq!(of(push, with_options), refused, "{action}");
        assert_eq!(of("PUT /g/s/r.git/Git-Receive-Pack/", with_options), refused, "{action}");
        assert_eq!(of(push, RequestedPush::Unread), Err(Unclear::BodyUnread), "{action}");
        let ambiguous = of("POST /g%2Fr.git/git-receive-pack", with_options);
        assert_eq!(ambiguous, Err(Unclear::Path), "{action}");
        assert_eq!(of(push, plain), Ok(false), "{action}");
        assert_eq!(of("POST /g/r.git/git-upload-pack", with_options), Ok(false), "{action}");
    }
    assert_eq!(decided("gitlab", "run-ci", push, with_options, ScopeShare::Any), Ok(false));
    for id in ["gitlab", "forgejo"] {
        let of = |body, share| decided(id, "push", push, body, share);
        assert_eq!(of(with_options, ScopeShare::All), refused, "{id}");
        assert_eq!(of(RequestedPush::Unread, ScopeShare::All), Err(Unclear::BodyUnread), "{id}");
        assert_eq!(of(plain, ScopeShare::All), Ok(true), "{id}");
        assert_eq!(of(with_options, ScopeShare::Any), Ok(true), "{id}");
    }
    let github = "POST github.com/o/r.git/git-receive-pack";
    assert_eq!(decided("github", "push", github, with_options, ScopeShare::All), Ok(true));
}
