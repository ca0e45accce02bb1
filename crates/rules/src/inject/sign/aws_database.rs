//! Passwords of databases in RDS and Aurora that are made of an access key: the URL of a presigned request to `rds-db:connect`
//! without its scheme. Servers ask for it in cleartext, so it is only for TLS.
//!
//! <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html>

use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{
    self, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
};
use aws_sigv4::sign::v4;
use jiff::Timestamp;
use percent_encoding::percent_encode;

use super::aws_names::{UNRESERVED, with_parameters};
use super::aws_sigv4::AwsKeys;
use super::error::SignError;
use keyward_base::host::Target;
use keyward_base::secret::Secret;

/// How long a password is accepted for new logins.
const EXPIRES: Duration = Duration::from_secs(15 * 60);

/// The name of the service in signatures.
const SERVICE: &str = "rds-db";

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
    use super::*;
    use keyward_base::host::Scheme;

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
