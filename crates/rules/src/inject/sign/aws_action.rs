//! Refuses actions of AWS whose answers contain credentials, because agents must not hold any. AWS itself enforces
//! the policies of the account.
//!
//! <https://docs.aws.amazon.com/STS/latest/APIReference/API_Operations.html>
//! <https://docs.aws.amazon.com/IAM/latest/APIReference/API_Operations.html>

use percent_encoding::percent_decode;

use super::error::SignError;

const REFUSED: &[(&str, &[&str])] = &[
    (
        "sts",
        &[
            "AssumeRole",
            "AssumeRoleWithSAML",
            "AssumeRoleWithWebIdentity",
            "AssumeRoot",
            "GetDelegatedAccessToken",
            "GetFederationToken",
            "GetSessionToken",
            "GetWebIdentityToken",
        ],
    ),
    (
        "iam",
        &["CreateAccessKey", "CreateServiceSpecificCredential", "ResetServiceSpecificCredential"],
    ),
];

/// Whether the action of requests to `service` is in their bodies.
pub(super) fn reads_body(service: &str) -> bool {
    REFUSED.iter().any(|(named, _)| *named == service)
}

/// Refuses a request whose answer contains credentials.
pub(super) fn check(service: &str, path: &str, body: Option<&[u8]>) -> Result<(), SignError> {
    let Some((_, refused)) = REFUSED.iter().find(|(named, _)| *named == service) else {
        // https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateSession.html
        let creates =
            service == "s3express" && pairs(query_of(path)).any(|(name, _)| name == b"session");
        return if creates {
            Err(SignError::AnswersWithCredentials("CreateSession"))
        } else {
            Ok(())
        };
    };
    let sent = pairs(query_of(path)).chain(pairs(body.unwrap_or_default()));
    for (_, value) in sent.filter(|(name, _)| name.eq_ignore_ascii_case(b"Action")) {
        if let Some(action) =
            refused.iter().find(|action| action.as_bytes().eq_ignore_ascii_case(&value))
        {
            return Err(SignError::AnswersWithCredentials(action));
        }
    }
    Ok(())
}

fn query_of(path: &str) -> &[u8] {
    path.split_once('?').map_or(&[], |(_, query)| query.as_bytes())
}

/// Names and values of a form, decoded.
fn pairs(form: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let decoded = |bytes: &[u8]| percent_decode(bytes.trim_ascii()).collect::<Vec<u8>>();
    form.split(|byte| *byte == b'&').map(move |pair| {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        (decoded(&pair[..at]), decoded(pair.get(at + 1..).unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_that_answers_with_credentials_is_refused_wherever_it_is_named() {
        let refused = [
            ("sts", "/", &b"Action=AssumeRole&Version=2011-06-15"[..]),
            ("sts", "/", b"Version=2011-06-15&%41ction=GetSession%54oken"),
            ("sts", "/?Action=GetFederationToken", b""),
            ("sts", "/", b"Action=GetCallerIdentity&Action=AssumeRole"),
            ("iam", "/", b"Action=CreateAccessKey"),
            ("s3express", "/?session", b""),
        ];
        for (service, path, body) in refused {
            assert!(check(service, path, Some(body)).is_err(), "{service} {path}");
        }
        let allowed = [
            ("sts", "/", &b"Action=GetCallerIdentity"[..]),
            ("iam", "/", b"Action=ListUsers"),
            ("s3", "/a?session", b"Action=AssumeRole"),
        ];
        for (service, path, body) in allowed {
            assert_eq!(check(service, path, Some(body)), Ok(()), "{service} {path}");
        }
    }
}
