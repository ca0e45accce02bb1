//! AWS Signature Version 4, by the `aws-sigv4` crate; Version 4A is in `aws_ecdsa`. The scope, the signed fields and
//! the way in which the body is signed are those of the agent's own signature; keys and date are ours.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>
//!
//! Actions whose answers contain credentials are refused, because agents must not hold any. AWS itself enforces the
//! policies of the account. Passwords of databases in RDS and Aurora are made of an access key too: the URL of a
//! presigned request to `rds-db:connect` without its scheme. Servers ask for it in cleartext, so it is only for TLS.
//!
//! <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html>

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    self, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
};
use aws_sigv4::sign::v4;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use percent_encoding::{percent_decode, percent_encode};
use zeroize::Zeroizing;

use super::aws_chunks::{ChunkKey, ChunkSigner};
use super::aws_ecdsa;
use super::aws_names::{CONTENT_SHA256, DATE, UNRESERVED, stamp, with_parameters};
use super::aws_request::{
    AwsPayload, AwsRequest, CredentialAction, SignedAwsRequest, SignedPath, Unsigned, actions_of,
};
use super::aws_signature::{AgentSignature, Regions, SignaturePlace};
use super::error::SignError;
use crate::aws_host::{api_of, multi_region_service, scope_of};
use keyward_base::host::Target;
use keyward_base::pattern::DecodedPath;
use keyward_base::secret::Secret;

/// How long a password is accepted for new logins.
const EXPIRES: Duration = Duration::from_secs(15 * 60);

/// The name of the service in signatures.
const SERVICE: &str = "rds-db";

/// Keys of an account, permanent or temporary.
#[derive(Debug)]
pub struct AwsKeys {
    /// The id, which each signature names.
    pub access_key_id: Secret,
    /// The key that signs.
    pub secret_access_key: Secret,
    /// Sent with the signatures of temporary keys.
    pub session_token: Option<Secret>,
    /// The region of requests that the agent does not sign.
    pub region: Option<Box<str>>,
    /// The service of requests that the agent does not sign.
    pub service: Option<Box<str>>,
}

impl AwsKeys {
    /// Reads the agent's signature in the head of a request to `host`.
    ///
    /// # Errors
    /// When it cannot be read, is of another algorithm, or nothing names region and service.
    pub fn read(
        &self,
        host: &str,
        fields: &HeaderMap,
        query: Option<&str>,
    ) -> Result<AwsRequest, SignError> {
        let agents = AgentSignature::find(fields, query)?;
        let AgentSignature { regions, service, signed, place } = match agents {
            Some(found) => found,
            None => self.unsigned(host)?,
        };
        let payload = AwsPayload::of(fields, &service, &place)?;
        if matches!(
            (&regions, &payload),
            (Regions::Set(_), AwsPayload::Chunks { .. })
                | (Regions::One(_), AwsPayload::AsymmetricChunks { .. })
        ) {
            return Err(SignError::Unreadable("its chunks are signed by another version"));
        }
        let path = SignedPath::of(&service, host);
        Ok(AwsRequest { regions, service, signed, place, path, payload })
    }

    /// The parameters for a request that the agent did not sign: region and service of the connection, or else of the
    /// host.
    fn unsigned(&self, host: &str) -> Result<AgentSignature, SignError> {
        let (signed, place) = (Vec::new(), SignaturePlace::Header);
        if let Some(service) = multi_region_service(host) {
            let (regions, service) = (Regions::Set("*".into()), service.into());
            return Ok(AgentSignature { regions, service, signed, place });
        }
        let named = scope_of(host);
        let region = self.region.as_deref().or(named.map(|(region, _)| region));
        let service = self.service.as_deref().or(named.map(|(_, service)| service));
        let (Some(region), Some(service)) = (region, service) else {
            return Err(SignError::NoScope);
        };
        let (regions, service) = (Regions::One(region.into()), service.into());
        Ok(AgentSignature { regions, service, signed, place })
    }

    /// Signs a request of an agent.
    ///
    /// # Errors
    /// When a field cannot be signed, or the answer would contain credentials.
    pub fn sign(
        &self,
        plan: &AwsRequest,
        request: Unsigned<'_>,
    ) -> Result<SignedAwsRequest, SignError> {
        check(&plan.service, &request)?;
        self.sign_own(plan, request)
    }

    /// Signs a request of Keyward itself, whose answer no agent gets.
    ///
    /// # Errors
    /// When a field cannot be signed.
    pub fn sign_own(
        &self,
        plan: &AwsRequest,
        request: Unsigned<'_>,
    ) -> Result<SignedAwsRequest, SignError> {
        match &plan.regions {
            Regions::One(region) => self.sign_in_region(plan, region, request),
            Regions::Set(regions) => aws_ecdsa::sign(&self.credentials()?, plan, regions, request),
        }
    }

    fn sign_in_region(
        &self,
        plan: &AwsRequest,
        region: &str,
        request: Unsigned<'_>,
    ) -> Result<SignedAwsRequest, SignError> {
        let time = SystemTime::from(match plan.place {
            SignaturePlace::Header => request.now,
            SignaturePlace::Query { date, .. } => date,
        });
        let payload = plan.payload.value(request.body);
        let uri = format!("https://{}{}", request.authority, plan.path.target(request.path));
        let covered = plan.covered(request.fields, request.authority)?;
        let covered = covered.iter().map(|(name, value)| (name.as_str(), &**value));
        let body = SignableBody::Precomputed(payload.into_owned());
        let signable = SignableRequest::new(request.method, uri, covered, body);
        let identity = self.credentials()?.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(&plan.service)
            .time(time)
            .settings(plan.settings())
            .build()
            .map_err(|_| SignError::Unsignable)?
            .into();
        let signed = http_request::sign(signable.map_err(|_| SignError::Unsignable)?, &params);
        let (instructions, signature) = signed.map_err(|_| SignError::Unsignable)?.into_parts();
        for (name, value) in instructions.headers() {
            let name =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| SignError::Unsignable)?;
            let mut value = HeaderValue::from_str(value).map_err(|_| SignError::Unsignable)?;
            value.set_sensitive(name != CONTENT_SHA256 && name != DATE);
            request.fields.insert(name, value);
        }
        let path = (!instructions.params().is_empty())
            .then(|| with_parameters(request.path, instructions.params()));
        let chunks = match plan.payload {
            AwsPayload::Chunks { trailer } => {
                let (key, scope) = self.chunk_key(region, &plan.service, time)?;
                let date = Timestamp::try_from(time).map_err(|_| SignError::Unsignable)?;
                Some(ChunkSigner::new(ChunkKey::Hmac(key), stamp(date), scope, signature, trailer))
            }
            _ => None,
        };
        Ok(SignedAwsRequest { path, chunks })
    }

    /// The key that signs chunks, and its scope.
    fn chunk_key(
        &self,
        region: &str,
        service: &str,
        time: SystemTime,
    ) -> Result<(Zeroizing<Vec<u8>>, String), SignError> {
        let secret = self.secret_access_key.expose_text().ok_or(SignError::Unsignable)?;
        let key = v4::generate_signing_key(secret, time, region, service);
        let time = Timestamp::try_from(time).map_err(|_| SignError::Unsignable)?;
        let scope = format!("{}/{region}/{service}/aws4_request", time.strftime("%Y%m%d"));
        Ok((Zeroizing::new(key.as_ref().to_vec()), scope))
    }

    pub(super) fn credentials(&self) -> Result<Credentials, SignError> {
        let text = |secret: &Secret| secret.expose_text().map(str::to_owned);
        let (id, key) = (text(&self.access_key_id), text(&self.secret_access_key));
        let (Some(id), Some(key)) = (id, key) else { return Err(SignError::Unsignable) };
        let token = match &self.session_token {
            Some(token) => Some(text(token).ok_or(SignError::Unsignable)?),
            None => None,
        };
        Ok(Credentials::new(id, key, token, None, "keyward"))
    }
}

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

impl AwsKeys {
    /// A password for logging in as `user` at a server.
    ///
    /// # Errors
    /// When the keys name no region, or are no text.
    pub fn database_password(
        &self,
        at: &Target,
        user: &str,
        now: Timestamp,
    ) -> Result<Secret, SignError> {
        let region = self.region.as_deref().ok_or(SignError::NoScope)?;
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(EXPIRES);
        settings.excluded_headers = None;
        let identity = self.credentials()?.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(SERVICE)
            .time(SystemTime::from(now))
            .settings(settings)
            .build()
            .map_err(|_| SignError::Unsignable)?
            .into();
        let authority = format!("{}:{}", at.host(), at.port());
        let user = percent_encode(user.as_bytes(), UNRESERVED);
        let path = format!("/?Action=connect&DBUser={user}");
        let fields = std::iter::once(("host", authority.as_str()));
        let uri = format!("https://{authority}{path}");
        let request = SignableRequest::new("GET", uri, fields, SignableBody::Bytes(&[]));
        let signed = http_request::sign(request.map_err(|_| SignError::Unsignable)?, &params);
        let (instructions, _) = signed.map_err(|_| SignError::Unsignable)?.into_parts();
        let path = with_parameters(&path, instructions.params());
        Ok(Secret::from(format!("{authority}{path}")))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use jiff::Timestamp;

    use super::*;
    use keyward_base::host::Scheme;

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

    fn keys(session_token: Option<&str>) -> AwsKeys {
        AwsKeys {
            access_key_id: Secret::from("AKIAIOSFODNN7EXAMPLE".to_owned()),
            secret_access_key: Secret::from("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned()),
            session_token: session_token.map(|token| Secret::from(token.to_owned())),
            region: Some("eu-west-1".into()),
            service: None,
        }
    }

    fn made(keys: &AwsKeys, user: &str) -> String {
        let at = Target::parse(Scheme::Https, "app.c1.eu-west-1.rds.amazonaws.com:5432");
        let now = "2026-11-20T01:02:03Z".parse().expect("a time");
        let password = keys.database_password(&at.expect("a target"), user, now);
        password.expect("it is signed").expose_text().expect("text").to_owned()
    }

    /// The parameters of what botocore's `generate_db_auth_token` makes, in order of their names.
    fn parameters(password: &str) -> Vec<String> {
        let (authority, query) = password.split_once("/?").expect("a query");
        assert_eq!(authority, "app.c1.eu-west-1.rds.amazonaws.com:5432");
        let mut all: Vec<_> = query.split('&').map(str::to_owned).collect();
        all.sort();
        all
    }

    #[test]
    fn a_password_has_the_signature_that_botocore_makes() {
        for (keys, user, expected) in [
            (keys(None), "app", BOTOCORE),
            (keys(Some("token/with+signs==")), "app user@x", BOTOCORE_WITH_TOKEN),
        ] {
            assert_eq!(parameters(&made(&keys, user)), parameters(expected));
        }
    }

    #[test]
    fn a_database_password_without_a_region_is_an_error() {
        let keys = AwsKeys { region: None, ..keys(None) };
        let at = Target::parse(Scheme::Https, "db.test:5432").expect("a target");
        let refused = keys.database_password(&at, "app", Timestamp::UNIX_EPOCH);
        assert_eq!(refused.err(), Some(SignError::NoScope));
    }

    // botocore 1.43, `botocore.signers.generate_db_auth_token`, at the same time with the same keys.
    const BOTOCORE: &str = "app.c1.eu-west-1.rds.amazonaws.com:5432/?Action=connect&DBUser=app&X-Amz-Algorithm=AWS4-HMAC-SHA256\
        &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20261120%2Feu-west-1%2Frds-db%2Faws4_request\
        &X-Amz-Date=20261120T010203Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host\
        &X-Amz-Signature=91786729b6946698038f0a87ec57e86b51a301bf9aef4df5a9164a63be322563";
    const BOTOCORE_WITH_TOKEN: &str = "app.c1.eu-west-1.rds.amazonaws.com:5432/?Action=connect&DBUser=app%20user%40x\
        &X-Amz-Algorithm=AWS4-HMAC-SHA256\
        &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20261120%2Feu-west-1%2Frds-db%2Faws4_request\
        &X-Amz-Date=20261120T010203Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host\
        &X-Amz-Security-Token=token%2Fwith%2Bsigns%3D%3D\
        &X-Amz-Signature=92ccbe9d6c5a38668da1c71062598d50a2d62a09be682fda4289a1375d11c5d3";
}
