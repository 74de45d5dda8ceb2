fn main() {
    sandbox::helper::entry();
}
