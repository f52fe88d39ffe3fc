extension Bool {
    /// Reads a boolean as oslo.utils' `bool_from_string` does in its strict form: `true`, `t`, `yes`, `y`, `on` and `1`, or `false`, `f`,
    /// `no`, `n`, `off` and `0`, in any case; nil for any other text.
    public init?(word text: some StringProtocol) {
        switch text.lowercased() {
        case "true", "t", "yes", "y", "on", "1": self = true
        case "false", "f", "no", "n", "off", "0": self = false
        default: return nil
        }
    }
}
