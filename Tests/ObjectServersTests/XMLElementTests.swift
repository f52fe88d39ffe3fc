import ObjectServers
import Testing

@Suite("What servers of objects answer")
struct XMLElementTests {
    private func parse(_ text: String) -> XMLElement? { XMLElement(parsing: Array(text.utf8)) }

    @Test("elements, texts, entities, CDATA, comments and namespaces are read")
    func reading() throws {
        let root = try #require(
            parse(
                "<?xml version=\"1.0\"?>\n<!-- c --><s:List xmlns:s=\"http://x/>\" a='/>'><Key>a&amp;b&lt;&#x41;&#66;</Key><Empty/><Key>\u{E9} <![CDATA[<&]]></Key></s:List>\n"
            ))
        #expect(root.name == "List" && root.all("Key").map(\.text) == ["a&b<AB", "\u{E9} <&"])
        #expect(root["Empty"] == "" && root["None"] == nil)
        #expect(parse("<a>\(XMLElement.escaped("<&>\"x"))</a>")?.text == "<&>\"x")
    }

    @Test(
        "what is no whole document, defines entities, or is deeper than any answer, is refused",
        arguments: [
            "", "<", "<a", "<a>", "<a></b>", "<a><b></a></b>", "<a>&x;</a>", "<a>&#xD800;</a>", "<a>&#;</a>", "<a/><b/>", "text",
            "<a x='></a>",
            "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>", "<a><!DOCTYPE b></a>", "<a><![CDATA[</a>", "<a><!-- </a>",
            String(repeating: "<a>", count: 17) + String(repeating: "</a>", count: 17),
        ])
    func refusals(text: String) { #expect(parse(text) == nil) }

    @Test("a document of very many elements is refused")
    func bounds() { #expect(parse("<a>" + String(repeating: "<b/>", count: 100_001) + "</a>") == nil) }

    @Test("every beginning of an answer is refused, and no byte that is changed ends the program")
    func damage() {
        let whole = Array("<?xml version=\"1.0\"?><A b=\"c\"><Key>x&amp;y</Key><![CDATA[z]]><!-- d --></A>".utf8)
        for end in 0..<whole.count { #expect(XMLElement(parsing: Array(whole[..<end])) == nil) }
        for index in whole.indices {
            for value in [0, 0x3C, 0x3E, 0x26, 0x2F, 0xFF] as [UInt8] {
                var bytes = whole
                bytes[index] = value
                _ = XMLElement(parsing: bytes)
            }
        }
    }
}

@Suite("Addresses and times of servers of objects")
struct ServerTextTests {
    @Test("an address is its scheme, host and path, without the scheme's port and a slash at the end")
    func addresses() throws {
        let address = try ServerAddress("HTTPS://S3.Example.com:443/base/", option: "o")
        #expect(address.text == "https://s3.example.com/base" && address.name == "s3.example.com" && !address.isAddress)
        let numbers = try ServerAddress("http://[::1]:9000", option: "o")
        #expect(numbers.host == "[::1]:9000" && numbers.name == "[::1]" && numbers.isAddress)
        #expect(try ServerAddress("http://127.0.0.1:80", option: "o").host == "127.0.0.1")
    }

    @Test(
        "what is none is refused, and what it holds is not repeated",
        arguments: [
            "", "s3.example.com", "ftp://x", "http://", "http://:80", "http://user:hunter2@x", "http://x?a=hunter2", "http://x y",
            "http://x#f",
        ])
    func refusals(text: String) {
        #expect { try ServerAddress(text, option: "backup_s3_endpoint_url") } throws: {
            "\($0)".contains("backup_s3_endpoint_url") && !"\($0)".contains("hunter2")
        }
    }

    @Test("texts are quoted for URLs, and come back")
    func quoting() {
        let text = "a/b c+d%e~f-\u{E9}&=?"
        #expect(URLText.quoted(text) == "a%2Fb%20c%2Bd%25e~f-%C3%A9%26%3D%3F")
        #expect(URLText.quoted("a/b c", keepsSlash: true) == "a/b%20c")
        #expect(URLText.plain(URLText.quoted(text)) == text && URLText.plain("%4") == nil && URLText.plain("%zz") == nil)
    }

    @Test("times are read and written as servers do")
    func times() {
        #expect(ServerTime.compact(1_796_029_687) == "20261130T090807Z" && ServerTime.iso(1_796_029_687) == "2026-11-30T09:08:07Z")
        #expect(ServerTime.parse(iso: "2026-11-30T09:08:07.123Z") == 1_796_029_687)
        #expect(ServerTime.parse(http: "Mon, 30 Nov 2026 09:08:07 GMT") == 1_796_029_687)
        for text in ["", "yesterday", "2026-13-30T09:08:07Z", "2026-11-30"] { #expect(ServerTime.parse(iso: text) == nil, "\(text)") }
        for text in ["", "Mon, 30 Foo 2026 09:08:07 GMT", "30 Nov"] { #expect(ServerTime.parse(http: text) == nil, "\(text)") }
    }

    @Test("hashes are those of others")
    func hashes() {
        #expect(Hashes.hex(Hashes.md5(Array("abc".utf8))) == "900150983cd24fb0d6963f7d28e17f72")
        #expect(Hashes.hex(Hashes.sha256(Array("abc".utf8))) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(
            Hashes.hex(Hashes.hmacSHA256(key: Array("Jefe".utf8), "what do ya want for nothing?"))
                == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        #expect(["", "f", "fo", "foo"].map { Hashes.base64(Array($0.utf8)) } == ["", "Zg==", "Zm8=", "Zm9v"])
        #expect(Hashes.bytes(ofHex: "00ff") == [0, 255] && Hashes.bytes(ofHex: "0") == nil && Hashes.bytes(ofHex: "zz") == nil)
    }
}
