//! Why a token is refused, in Envoy's words (its `jwt_verify_lib`), which clients see and logs hold.

/// What is wrong with a request's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("Jwt is missing")]
    Missing,
    #[error("Jwt not yet valid")]
    NotYetValid,
    #[error("Jwt is expired")]
    Expired,
    #[error("Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections")]
    Form,
    #[error("Jwt is too large")]
    TooLarge,
    #[error("Jwt header is an invalid Base64url encoded")]
    HeaderBase64,
    #[error("Jwt header is an invalid JSON")]
    HeaderJson,
    #[error("Jwt header [alg] field is required and must be a string")]
    HeaderAlg,
    #[error("Jwt header [alg] is not supported")]
    UnknownAlg,
    #[error("Jwt header [kid] field is not a string")]
    HeaderKid,
    #[error("Jwt header [crit] is not supported")]
    Critical,
    #[error("Jwt payload is an invalid Base64url encoded")]
    PayloadBase64,
    #[error("Jwt payload is an invalid JSON")]
    PayloadJson,
    #[error("Jwt payload [{0}] field is not a string")]
    NotString(&'static str),
    #[error("Jwt payload [{0}] field is not an integer")]
    NotInteger(&'static str),
    #[error("Jwt payload [{0}] field is not a positive 64 bit integer")]
    OutOfRange(&'static str),
    #[error("Jwt payload [aud] field is not a string or string list")]
    Audience,
    #[error("Jwt signature is an invalid Base64url encoded")]
    SignatureBase64,
    #[error("Jwt issuer is not configured")]
    UnknownIssuer,
    #[error("Audiences in Jwt are not allowed")]
    AudienceNotAllowed,
    #[error("Jwt verification fails")]
    Verification,
    #[error("Jwks doesn't have key to match kid or alg from Jwt")]
    NoSuchKey,
    #[error("Jwks remote fetch is failed")]
    KeysUnavailable,
    /// Not an answer yet: the keys are being fetched for the first time.
    #[error("Jwks remote fetch is failed")]
    KeysPending,
}

impl Failure {
    /// The status that the client gets.
    pub fn status(self) -> u16 {
        if self == Failure::AudienceNotAllowed { 403 } else { 401 }
    }

    /// How much it says of why a request is refused, beside other things that are wrong.
    pub fn tells(self) -> u8 {
        match self {
            Failure::Missing => 0,
            Failure::UnknownIssuer => 1,
            _ => 2,
        }
    }
}
