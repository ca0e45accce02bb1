//! Refuses actions of AWS whose answers contain credentials, because agents must not hold any. AWS itself enforces the
//! policies of the account.

use http::header::HeaderMap;
use percent_encoding::percent_decode;

use super::aws_credential_actions::{CredentialAction, actions_of};
use super::aws_request::Unsigned;
use super::error::SignError;
use crate::aws_host::api_of;
use keyward_base::pattern::DecodedPath;

/// Refuses a request whose answer contains credentials. The service is that of the signature or of the host.
pub(super) fn check(service: &str, request: &Unsigned<'_>) -> Result<(), SignError> {
    let host = request.authority.split(':').next().unwrap_or_default();
    let by_host = api_of(host).filter(|by_host| *by_host != service);
    let mut actions =
        actions_of(service).chain(by_host.into_iter().flat_map(actions_of)).peekable();
    if actions.peek().is_none() {
        return Ok(());
    }
    let (path, query) = request.path.split_once('?').unwrap_or((request.path, ""));
    let path = DecodedPath::parse(path).map_err(|_| SignError::Unsignable)?;
    let query = query.as_bytes();
    let named = named(&path, query, request.fields, request.body.unwrap_or_default());
    let has_parameter = |name: &str| pairs(query).any(|(sent, _)| decodes_to(sent, name));
    let is_requested = |action: &&CredentialAction| {
        named.iter().any(|name| name.eq_ignore_ascii_case(action.name.as_bytes()))
            || action.has_route(request.method, &path, has_parameter)
    };
    match actions.find(is_requested) {
        Some(action) => Err(SignError::AnswersWithCredentials(action.name)),
        None => Ok(()),
    }
}

/// The actions that the request names in one of the ways of AWS: a form, `X-Amz-Target: PREFIX.ACTION`, or the path
/// `/service/PREFIX/operation/ACTION`.
///
/// <https://smithy.io/2.0/aws/protocols/aws-query-protocol.html>
/// <https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html>
/// <https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html>
fn named(path: &DecodedPath, query: &[u8], fields: &HeaderMap, body: &[u8]) -> Vec<Vec<u8>> {
    let sent = pairs(query).chain(pairs(body)).filter(|(name, _)| decodes_to(name, "Action"));
    let mut named: Vec<Vec<u8>> = sent.map(|(_, value)| percent_decode(value).collect()).collect();
    let targets = fields.get_all("x-amz-target").iter();
    let last = |target: &[u8]| target.rsplit(|byte| *byte == b'.').next().map(<[u8]>::to_vec);
    named.extend(targets.filter_map(|target| last(target.as_bytes().trim_ascii())));
    named.extend(
        path.as_str().rsplit_once("/operation/").map(|(_, name)| name.trim_end_matches('/').into()),
    );
    named
}

/// Names and values of a form, as they are sent.
fn pairs(form: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    form.split(|byte| *byte == b'&').map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        (pair[..at].trim_ascii(), pair.get(at + 1..).unwrap_or_default().trim_ascii())
    })
}

/// Whether it is this name, in any letter case. Reads no further than to the first difference: a body may be long.
fn decodes_to(sent: &[u8], name: &str) -> bool {
    let decoded = percent_decode(sent).map(|byte| byte.to_ascii_lowercase());
    decoded.eq(name.bytes().map(|byte| byte.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use jiff::Timestamp;

    use super::*;

    /// Checks `METHOD HOST/PATH`, signed for the service, with a target and a body.
    fn checked(
        service: &str,
        line: &str,
        target: &'static str,
        body: &str,
    ) -> Result<(), SignError> {
        let (method, url) = line.split_once(' ').unwrap();
        let at = url.find('/').unwrap();
        let mut fields = HeaderMap::new();
        if !target.is_empty() {
            fields.insert("x-amz-target", HeaderValue::from_static(target));
        }
        let (authority, path) = url.split_at(at);
        let (body, now) = (Some(body.as_bytes()), Timestamp::UNIX_EPOCH);
        check(service, &Unsigned { method, authority, path, fields: &mut fields, body, now })
    }

    #[test]
    fn an_action_that_answers_with_credentials_is_refused_wherever_it_is_named() {
        for (service, line, target, body) in [
            ("sts", "POST sts.test/", "", "Action=AssumeRole&Version=2011-06-15"),
            ("sts", "POST sts.test/", "", "Version=2011-06-15&%41ction=GetSession%54oken"),
            ("sts", "GET sts.test/?Action=GetFederationToken", "", ""),
            ("sts", "POST sts.test/", "", "Action=GetCallerIdentity&Action=AssumeRole"),
            ("sts", "POST sts.test/", "", "Action=GetScopedCredentials"),
            ("sts", "POST sts.test/", "AWSSecurityTokenServiceV20110615.AssumeRole", "{}"),
            ("sts", "POST sts.test/service/STS/operation/AssumeRole", "", ""),
            ("iam", "POST iam.test/", "", "Action=CreateAccessKey"),
            ("redshift", "POST redshift.test/", "", "Action=GetClusterCredentialsWithIAM"),
            ("s3express", "GET b.test/?session", "", ""),
            ("s3", "GET b.s3express-usw2-az1.us-west-2.amazonaws.com/?session", "", ""),
            (
                "s3",
                "GET 12.s3-control.eu-west-1.amazonaws.com:443/v20180820/accessgrantsinstance/dataaccess?target=a",
                "",
                "",
            ),
            (
                "ecr",
                "POST api.ecr.eu-west-1.amazonaws.com/",
                "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
                "{}",
            ),
            ("gamelift", "POST g.test/service/GameLift/operation/RequestUploadCredentials", "", ""),
            ("lakeformation", "POST lake.test/GetTemporaryGlueTableCredentials/", "", "{}"),
            ("codeartifact", "POST code.test/v1/authorization%2Dtoken?domain=a", "", ""),
            ("codeartifact", "POST code.test/v1//authorization-token?domain=a", "", ""),
            ("datazone", "GET d.test/v2/domains/a/connections/b?withSecret=true", "", ""),
            ("datazone", "POST d.test/v2/domains/a/get-portal-login-url", "", "{}"),
            ("sagemaker", "POST s.test/", "SageMaker.CreatePresignedDomainUrl", "{}"),
            ("sagemaker", "POST s.test/", "SageMaker.CreatePresignedNotebookInstanceUrl", "{}"),
            ("lightsail", "POST l.test/", "Lightsail_20161128.GetInstanceAccessDetails", "{}"),
        ] {
            let refused = checked(service, line, target, body);
            assert!(
                matches!(refused, Err(SignError::AnswersWithCredentials(_))),
                "{service} {line} {target}"
            );
        }
    }

    #[test]
    fn other_actions_of_the_same_services_are_signed() {
        for (service, line, target, body) in [
            ("sts", "POST sts.test/", "", "Action=GetCallerIdentity"),
            ("iam", "POST iam.test/", "", "Action=PutRolePolicy&PolicyDocument=sts%3AAssumeRole"),
            ("s3", "GET b.s3.eu-west-1.amazonaws.com/a?session", "", "Action=AssumeRole"),
            (
                "s3",
                "GET b.s3.eu-west-1.amazonaws.com/v20180820/accessgrantsinstance/dataaccess",
                "",
                "",
            ),
            (
                "ecr",
                "POST api.ecr.eu-west-1.amazonaws.com/",
                "AmazonEC2ContainerRegistry_V20150921.DescribeImages",
                "{}",
            ),
            ("codeartifact", "GET code.test/v1/repositories", "", ""),
            ("datazone", "GET d.test/v2/domains/a/connections/b", "", ""),
            ("sagemaker", "POST s.test/", "SageMaker.DescribeDomain", "{}"),
            ("lightsail", "POST l.test/", "Lightsail_20161128.GetInstances", "{}"),
            ("grafana", "GET g.test/workspaces/a/serviceaccounts/b/tokens", "", ""),
        ] {
            assert_eq!(checked(service, line, target, body), Ok(()), "{service} {line} {target}");
        }
    }

    #[test]
    fn every_listed_action_is_refused_by_its_name_and_by_its_route() {
        let table = include_str!("aws_credential_actions.tsv");
        let rows = table.lines().filter(|line| !line.starts_with('#'));
        for row in rows {
            let [service, name, route] = row.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{row}")
            };
            let by_name = checked(service, "POST a.test/", "", &format!("Action={name}"));
            assert_eq!(by_name, Err(SignError::AnswersWithCredentials(name)), "{row}");
            if let Some((method, path)) = route.split_once(' ') {
                let line = format!("{method} a.test{}", path.replace('*', "a"));
                let by_route = checked(service, &line, "", "");
                assert_eq!(by_route, Err(SignError::AnswersWithCredentials(name)), "{row}");
            }
        }
    }
}
