//! TLS contexts and secrets.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls_pb;
use tls_pb::common_tls_context as common_pb;
use tulle_config::tls::{
    CertificateSource, CipherSuite, ClientCert, CommonTls, KeyExchange, Pins, SanKind, SanMatcher, SecretOrigin,
    SecretRef, TlsCertificate, TlsVersion, TrustSource, Validation,
};
use tulle_config::{DownstreamTls, Secret, UpstreamTls};
use tulle_core::Str;

use super::common::{data_source, optional, truth};
use super::cx::{Cx, refuse, without_effect};
use super::matchers::string_matcher;
use super::source::source;

/// The static cluster whose secrets are the process's own identity.
const IDENTITY_CLUSTER: &str = "sds-grpc";

pub fn downstream(cx: &mut Cx, message: tls_pb::DownstreamTlsContext) -> Option<DownstreamTls> {
    use tls_pb::downstream_tls_context::SessionTicketKeysType as Tickets;
    let tls_pb::DownstreamTlsContext {
        common_tls_context,
        require_client_certificate,
        require_sni,
        disable_stateful_session_resumption,
        session_timeout,
        ocsp_staple_policy,
        full_scan_certs_on_sni_mismatch,
        prefer_client_ciphers,
        session_ticket_keys_type,
    } = message;
    without_effect!(cx; disable_stateful_session_resumption, session_timeout, full_scan_certs_on_sni_mismatch,
        prefer_client_ciphers);
    refuse!(cx; ocsp_staple_policy);
    let common = cx.required("common_tls_context", common_tls_context)?;
    let common = cx.field("common_tls_context", |cx| common_tls(cx, common))?;
    if common.certificates.is_empty() {
        cx.error_at("common_tls_context", "a server needs a certificate");
    }
    let required = truth(require_client_certificate, false);
    if required && common.validation.trust.is_none() {
        cx.error_at("require_client_certificate", "needs a validation context with a trusted CA");
    }
    Some(DownstreamTls {
        client_cert: match (required, common.validation.trust.is_some()) {
            (true, _) => ClientCert::Required,
            (false, true) => ClientCert::Optional,
            (false, false) => ClientCert::Ignored,
        },
        session_tickets: match session_ticket_keys_type {
            None => true,
            Some(Tickets::DisableStatelessSessionResumption(disabled)) => !disabled,
            Some(Tickets::SessionTicketKeys(_) | Tickets::SessionTicketKeysSdsSecretConfig(_)) => {
                cx.field("session_ticket_keys", |cx| cx.warn("keys are made here and not shared"));
                true
            }
        },
        require_sni: truth(require_sni, false),
        common,
    })
}

pub fn upstream(cx: &mut Cx, message: tls_pb::UpstreamTlsContext) -> Option<UpstreamTls> {
    let tls_pb::UpstreamTlsContext {
        common_tls_context,
        sni,
        auto_host_sni,
        auto_sni_san_validation,
        allow_renegotiation,
        max_session_keys,
        enforce_rsa_key_usage,
    } = message;
    refuse!(cx; allow_renegotiation);
    without_effect!(cx; max_session_keys, enforce_rsa_key_usage);
    let common = cx.field("common_tls_context", |cx| common_tls(cx, common_tls_context.unwrap_or_default()))?;
    if common.validation.trust.is_none() {
        cx.field("common_tls_context.validation_context", |cx| cx.warn("the server's certificate is not verified"));
    }
    Some(UpstreamTls { common, sni: optional(cx, &sni), auto_host_sni, auto_sni_san_validation })
}

fn common_tls(cx: &mut Cx, message: tls_pb::CommonTlsContext) -> Option<CommonTls> {
    let tls_pb::CommonTlsContext {
        tls_params,
        tls_certificates,
        tls_certificate_sds_secret_configs,
        tls_certificate_provider_instance,
        custom_tls_certificate_selector,
        tls_certificate_certificate_provider,
        tls_certificate_certificate_provider_instance,
        alpn_protocols,
        custom_handshaker,
        key_log,
        validation_context_type,
    } = message;
    refuse!(cx; tls_certificate_provider_instance, custom_tls_certificate_selector,
        tls_certificate_certificate_provider, tls_certificate_certificate_provider_instance, custom_handshaker, key_log);
    let Parameters { min, max, groups, suites } = match tls_params {
        Some(params) => cx.field("tls_params", |cx| parameters(cx, params))?,
        None => Parameters { min: TlsVersion::V1_2, max: TlsVersion::V1_3, groups: Vec::new(), suites: Vec::new() },
    };
    let inline = cx.each("tls_certificates", tls_certificates, certificate);
    let named = cx.each("tls_certificate_sds_secret_configs", tls_certificate_sds_secret_configs, secret_ref);
    let inline = inline.into_iter().map(|certificate| CertificateSource::Inline(Arc::new(certificate)));
    Some(CommonTls {
        min,
        max,
        groups,
        suites,
        alpn: alpn_protocols.into_iter().map(|protocol| protocol.into_bytes().into()).collect(),
        certificates: inline.chain(named.into_iter().map(CertificateSource::Secret)).collect(),
        validation: match validation_context_type {
            Some(context) => validation_of(cx, context)?,
            None => Validation::default(),
        },
    })
}

struct Parameters {
    min: TlsVersion,
    max: TlsVersion,
    groups: Vec<KeyExchange>,
    suites: Vec<CipherSuite>,
}

fn parameters(cx: &mut Cx, message: tls_pb::TlsParameters) -> Option<Parameters> {
    use tls_pb::tls_parameters::TlsProtocol;
    let tls_pb::TlsParameters {
        tls_minimum_protocol_version,
        tls_maximum_protocol_version,
        cipher_suites,
        ecdh_curves,
        signature_algorithms,
        compliance_policies,
    } = message;
    refuse!(cx; signature_algorithms, compliance_policies);
    let suites = suites(cx, &cipher_suites);
    let groups = cx.each("ecdh_curves", ecdh_curves, key_exchange);
    let min = cx.enumeration::<TlsProtocol>("tls_minimum_protocol_version", tls_minimum_protocol_version)?;
    let max = cx.enumeration::<TlsProtocol>("tls_maximum_protocol_version", tls_maximum_protocol_version)?;
    let min = match min {
        TlsProtocol::TlsAuto | TlsProtocol::TlSv12 => TlsVersion::V1_2,
        TlsProtocol::TlSv13 => TlsVersion::V1_3,
        TlsProtocol::TlSv10 | TlsProtocol::TlSv11 => {
            cx.field("tls_minimum_protocol_version", |cx| cx.warn("TLS 1.2 is the oldest spoken"));
            TlsVersion::V1_2
        }
    };
    let max = match max {
        TlsProtocol::TlsAuto | TlsProtocol::TlSv13 => TlsVersion::V1_3,
        TlsProtocol::TlSv12 => TlsVersion::V1_2,
        TlsProtocol::TlSv10 | TlsProtocol::TlSv11 => {
            cx.error_at("tls_maximum_protocol_version", "TLS 1.2 is the oldest spoken");
            return None;
        }
    };
    if min > max {
        cx.error("the minimum version is above the maximum");
    }
    Some(Parameters { min, max, groups, suites })
}

/// By OpenSSL's names; of those in brackets any may be taken. What is not spoken here is left out, with a warning as long as
/// something is left.
fn suites(cx: &mut Cx, names: &[String]) -> Vec<CipherSuite> {
    let each = names.iter().flat_map(|name| name.trim_matches(['[', ']']).split('|'));
    let (mut known, mut others) = (Vec::new(), Vec::new());
    for name in each {
        match cipher_suite(name) {
            Some(suite) => known.push(suite),
            None => others.push(name),
        }
    }
    if !others.is_empty() {
        let message = format!("not spoken here: {}", others.join(", "));
        if known.is_empty() {
            cx.error_at("cipher_suites", message);
        } else {
            cx.field("cipher_suites", |cx| cx.warn(message));
        }
    }
    known
}

fn cipher_suite(name: &str) -> Option<CipherSuite> {
    Some(match name {
        "ECDHE-ECDSA-AES128-GCM-SHA256" => CipherSuite::EcdsaAes128,
        "ECDHE-ECDSA-AES256-GCM-SHA384" => CipherSuite::EcdsaAes256,
        "ECDHE-ECDSA-CHACHA20-POLY1305" => CipherSuite::EcdsaChaCha20,
        "ECDHE-RSA-AES128-GCM-SHA256" => CipherSuite::RsaAes128,
        "ECDHE-RSA-AES256-GCM-SHA384" => CipherSuite::RsaAes256,
        "ECDHE-RSA-CHACHA20-POLY1305" => CipherSuite::RsaChaCha20,
        _ => return None,
    })
}

/// BoringSSL's names, as Envoy takes them.
fn key_exchange(cx: &mut Cx, name: String) -> Option<KeyExchange> {
    match name.as_str() {
        "X25519MLKEM768" => Some(KeyExchange::X25519MlKem768),
        "X25519" => Some(KeyExchange::X25519),
        "P-256" => Some(KeyExchange::P256),
        "P-384" => Some(KeyExchange::P384),
        _ => {
            cx.error("the key exchanges are X25519MLKEM768, X25519, P-256 and P-384");
            None
        }
    }
}

fn certificate(cx: &mut Cx, message: tls_pb::TlsCertificate) -> Option<TlsCertificate> {
    let tls_pb::TlsCertificate {
        certificate_chain,
        private_key,
        pkcs12,
        watched_directory: _,
        private_key_provider,
        password,
        ocsp_staple,
        signed_certificate_timestamp,
        tls_params,
    } = message;
    // Files of secrets that are discovered are watched in any case, and no others.
    refuse!(cx; pkcs12, private_key_provider, password, ocsp_staple, signed_certificate_timestamp,
        tls_params);
    let chain = cx.required("certificate_chain", certificate_chain);
    let key = cx.required("private_key", private_key);
    Some(TlsCertificate {
        chain: cx.field("certificate_chain", |cx| data_source(cx, chain?))?,
        key: cx.field("private_key", |cx| data_source(cx, key?))?,
    })
}

fn secret_ref(cx: &mut Cx, message: tls_pb::SdsSecretConfig) -> Option<SecretRef> {
    let tls_pb::SdsSecretConfig { name, sds_config } = message;
    let name = cx.name("name", &name)?;
    match sds_config {
        None => Some(SecretRef { name, origin: SecretOrigin::Static }),
        Some(from) if is_identity(&from) => Some(SecretRef { name, origin: SecretOrigin::Identity }),
        Some(from) => {
            let (name, from) = source(cx, "sds_config", Some(from), &name)?;
            Some(SecretRef { name, origin: SecretOrigin::Discovered(from) })
        }
    }
}

/// Whether a secret comes from the process itself.
fn is_identity(message: &core_pb::ConfigSource) -> bool {
    use core_pb::config_source::ConfigSourceSpecifier as Specifier;
    use core_pb::grpc_service::TargetSpecifier;
    let Some(Specifier::ApiConfigSource(api)) = &message.config_source_specifier else { return false };
    let target = api.grpc_services.first().and_then(|grpc| grpc.target_specifier.as_ref());
    matches!(target, Some(TargetSpecifier::EnvoyGrpc(target)) if target.cluster_name == IDENTITY_CLUSTER)
}

fn validation_of(cx: &mut Cx, context: common_pb::ValidationContextType) -> Option<Validation> {
    use common_pb::ValidationContextType as Kind;
    match context {
        Kind::ValidationContext(context) => cx.field("validation_context", |cx| validation(cx, context)),
        Kind::ValidationContextSdsSecretConfig(secret) => {
            let secret = cx.field("validation_context_sds_secret_config", |cx| secret_ref(cx, secret))?;
            Some(Validation { trust: Some(TrustSource::Secret(secret)), ..Validation::default() })
        }
        Kind::CombinedValidationContext(combined) => {
            cx.field("combined_validation_context", |cx| combined_validation(cx, combined))
        }
        Kind::ValidationContextCertificateProvider(_) | Kind::ValidationContextCertificateProviderInstance(_) => {
            cx.refuse("validation_context_certificate_provider");
            None
        }
    }
}

/// The secret gives the roots, the inline part the names.
fn combined_validation(cx: &mut Cx, message: common_pb::CombinedCertificateValidationContext) -> Option<Validation> {
    let common_pb::CombinedCertificateValidationContext {
        default_validation_context,
        validation_context_sds_secret_config,
        validation_context_certificate_provider,
        validation_context_certificate_provider_instance,
    } = message;
    refuse!(cx; validation_context_certificate_provider, validation_context_certificate_provider_instance);
    let default = default_validation_context.unwrap_or_default();
    let mut merged = cx.field("default_validation_context", |cx| validation(cx, default))?;
    let secret = cx.required("validation_context_sds_secret_config", validation_context_sds_secret_config)?;
    let secret = cx.field("validation_context_sds_secret_config", |cx| secret_ref(cx, secret))?;
    if merged.trust.is_some() {
        cx.error_at("default_validation_context.trusted_ca", "cannot stand beside the secret's");
    }
    merged.trust = Some(TrustSource::Secret(secret));
    Some(merged)
}

fn validation(cx: &mut Cx, message: tls_pb::CertificateValidationContext) -> Option<Validation> {
    let tls_pb::CertificateValidationContext {
        trusted_ca,
        ca_certificate_provider_instance,
        system_root_certs,
        watched_directory: _,
        verify_certificate_spki,
        verify_certificate_hash,
        match_typed_subject_alt_names,
        match_subject_alt_names,
        require_signed_certificate_timestamp,
        crl,
        allow_expired_certificate,
        trust_chain_verification,
        custom_validator_config,
        only_verify_leaf_cert_crl,
        max_verify_depth,
        suppress_client_ca_list,
    } = message;
    refuse!(cx; ca_certificate_provider_instance, require_signed_certificate_timestamp, crl,
        allow_expired_certificate, trust_chain_verification, custom_validator_config, only_verify_leaf_cert_crl,
        max_verify_depth);
    let pins = pins(cx, verify_certificate_hash, verify_certificate_spki);
    if !pins.is_empty() && trusted_ca.is_none() && system_root_certs.is_none() {
        cx.error_at("trusted_ca", "is required beside hashes of certificates");
    }
    without_effect!(cx; suppress_client_ca_list);
    let trust = match (trusted_ca, system_root_certs) {
        (Some(_), Some(_)) => {
            cx.error_at("system_root_certs", "cannot stand beside trusted_ca");
            return None;
        }
        (Some(source), None) => Some(TrustSource::Inline(cx.field("trusted_ca", |cx| data_source(cx, source))?)),
        (None, Some(_)) => Some(TrustSource::System),
        (None, None) => None,
    };
    let typed = cx.each("match_typed_subject_alt_names", match_typed_subject_alt_names, typed_san);
    let untyped = cx.each("match_subject_alt_names", match_subject_alt_names, |cx, matcher| {
        Some(SanMatcher { kind: SanKind::Any, value: string_matcher(cx, matcher)? })
    });
    Some(Validation { trust, sans: typed.into_iter().chain(untyped).collect(), pins })
}

fn pins(cx: &mut Cx, hashes: Vec<String>, keys: Vec<String>) -> Pins {
    let certificates = cx.each("verify_certificate_hash", hashes, |cx, text| {
        // As OpenSSL prints it, or without its colons.
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        let bytes: Option<Vec<u8>> =
            (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect();
        digest(cx, bytes)
    });
    let keys = cx.each("verify_certificate_spki", keys, |cx, text| {
        const LENGTH: usize = 44;
        let fits = text.len() == LENGTH && text.ends_with('=');
        if !fits {
            cx.error("is no SHA-256 digest in base64");
        }
        fits.then(|| cx.intern(&text))
    });
    Pins { certificates, keys }
}

fn digest(cx: &mut Cx, bytes: Option<Vec<u8>>) -> Option<[u8; 32]> {
    let digest = bytes.and_then(|bytes| bytes.try_into().ok());
    if digest.is_none() {
        cx.error("is no SHA-256 digest");
    }
    digest
}

fn typed_san(cx: &mut Cx, message: tls_pb::SubjectAltNameMatcher) -> Option<SanMatcher> {
    use tls_pb::subject_alt_name_matcher::SanType;
    let tls_pb::SubjectAltNameMatcher { san_type, matcher, oid } = message;
    refuse!(cx; oid);
    let kind = match cx.enumeration::<SanType>("san_type", san_type)? {
        SanType::Dns => SanKind::Dns,
        SanType::Uri => SanKind::Uri,
        SanType::IpAddress => SanKind::Ip,
        SanType::Email => SanKind::Email,
        SanType::Unspecified | SanType::OtherName => {
            cx.error_at("san_type", "must be DNS, URI, IP_ADDRESS or EMAIL");
            return None;
        }
    };
    let matcher = cx.required("matcher", matcher)?;
    Some(SanMatcher { kind, value: cx.field("matcher", |cx| string_matcher(cx, matcher))? })
}

pub fn secret(cx: &mut Cx, message: tls_pb::Secret) -> Option<(Str, Secret)> {
    use tls_pb::secret::Type;
    let tls_pb::Secret { name, r#type } = message;
    let name = cx.name("name", &name)?;
    let secret = match cx.required("type", r#type)? {
        Type::TlsCertificate(message) => {
            Secret::Certificate(Arc::new(cx.field("tls_certificate", |cx| certificate(cx, message))?))
        }
        Type::ValidationContext(message) => {
            Secret::Validation(Arc::new(cx.field("validation_context", |cx| validation(cx, message))?))
        }
        Type::SessionTicketKeys(_) | Type::GenericSecret(_) => {
            cx.error("only tls_certificate and validation_context are supported");
            return None;
        }
    };
    Some((name, secret))
}
