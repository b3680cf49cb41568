//! The filter that changes heads.

use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3 as mutation_pb;
use tulle_route::FilterMutations;

use super::super::cx::{Cx, refuse};
use super::super::mutation::header_mutation;

pub fn filter(cx: &mut Cx, message: mutation_pb::HeaderMutation) -> FilterMutations {
    let mutation_pb::HeaderMutation { mutations: given, most_specific_header_mutations_wins } = message;
    FilterMutations { most_specific_wins: most_specific_header_mutations_wins, ..mutations(cx, given) }
}

pub fn per_route(cx: &mut Cx, message: mutation_pb::HeaderMutationPerRoute) -> FilterMutations {
    let mutation_pb::HeaderMutationPerRoute { mutations: given } = message;
    mutations(cx, given)
}

fn mutations(cx: &mut Cx, message: Option<mutation_pb::Mutations>) -> FilterMutations {
    let mutation_pb::Mutations {
        request_mutations,
        query_parameter_mutations,
        response_mutations,
        response_trailers_mutations,
        request_trailers_mutations,
    } = message.unwrap_or_default();
    cx.field("mutations", |cx| {
        refuse!(cx; query_parameter_mutations, response_trailers_mutations, request_trailers_mutations);
        FilterMutations {
            request: cx.each("request_mutations", request_mutations, header_mutation).into(),
            response: cx.each("response_mutations", response_mutations, header_mutation).into(),
            most_specific_wins: false,
        }
    })
}
