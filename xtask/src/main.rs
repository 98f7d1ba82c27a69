//! The Saymask command line.

use burn::tensor::Device;

fn main() {
    for p in std::env::args().skip(1) {
        match xtask::check::run(p.as_ref(), &Device::flex(), xtask::check::BOUND) {
            Ok(xtask::check::Verdict::Checked(o)) => for o in o { println!("{} {} {:e} {:e} {:?}", if o.passed() {"ok"} else {"FAIL"}, o.name, o.error, o.bound, o.fault) },
            other => println!("{other:?}"),
        }
    }
}
