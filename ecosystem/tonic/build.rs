//! Writes the client and the server of the service, from this description in place of a .proto file.

use tonic_build::manual::{Builder, Method, MethodBuilder, Service};

fn main() {
    let method = |name: &str, route: &str, input: &str, comment: &str| -> MethodBuilder {
        Method::builder()
            .name(name)
            .route_name(route)
            .comment(comment)
            .input_type(format!("crate::{input}"))
            .output_type("crate::Total")
            .codec_path("tonic_prost::ProstCodec")
    };
    let all = method("add_all", "AddAll", "Reading", "Adds readings, and says the total at the end.");
    let each = method("add_each", "AddEach", "Reading", "Adds readings, and says the total after each.");
    let watch = method("watch", "Watch", "Meter", "The total now, and whenever it has changed.");
    let service = Service::builder()
        .package("meter")
        .name("Meters")
        .comment("Meters that add up what they are told.")
        .method(method("add", "Add", "Reading", "Adds one reading.").build())
        .method(all.client_streaming().build())
        .method(each.client_streaming().server_streaming().build())
        .method(watch.server_streaming().build())
        .build();
    Builder::new().compile(&[service]);
    println!("cargo::rerun-if-changed=build.rs");
}
