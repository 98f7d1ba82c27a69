//! `web-bindgen IN.wasm OUT`: the JavaScript module and TypeScript declarations of a compiled `saymask-web`, `saymask.js` in OUT.
#![forbid(unsafe_code)]

use std::error::Error;

use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [input, out] = &args[..] else { return Err("usage: web-bindgen IN.wasm OUT".into()) };
    let mut bindgen = Bindgen::new();
    bindgen.input_path(input).typescript(true).out_name("saymask").remove_name_section(true).remove_producers_section(true);
    bindgen.web(true)?.generate(out)?;
    Ok(())
}
