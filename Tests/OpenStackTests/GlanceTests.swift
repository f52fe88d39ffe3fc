import Settings
import Testing

@testable import OpenStack

@Suite("Glance's client")
struct GlanceTests {
    @Test("what is wrong with its options is told line by line, with the option's name")
    func problems() throws {
        let settings = try Settings(
            text:
                "[DEFAULT]\nglance_api_servers = http://a:9292,ftp://b\nglance_catalog_info = image:publicURL\n",
            known: OptionCatalogue(Options.glance))
        let problems = Glance.problems(settings)
        #expect(problems.count == 2)
        #expect(problems[0] == "[DEFAULT] glance_api_servers: 'ftp://b' is no URL")
        #expect(problems[1].hasPrefix("[DEFAULT] glance_catalog_info must be type:name:interface"))
        #expect(Glance.problems(try Settings(text: "[DEFAULT]\n", known: OptionCatalogue(Options.glance))).isEmpty)
    }

    @Test("of a page that says no the sentence is kept, without tags and control characters, and no more than 300 bytes of it")
    func words() {
        func words(_ body: String) -> String { Glance.words(Array(body.utf8), status: 403) }
        #expect(
            words(
                "<html>\n <head>\n  <title>403 Forbidden</title>\n </head>\n <body>\n  <h1>403 Forbidden</h1>\n  You may not.<br /><br />\n"
            )
                == "You may not.")
        #expect(words("a\u{1B}[31mb\nc") == "a [31mb c")
        #expect(words("") == "Glance answered 403.")
        #expect(words(String(repeating: "x", count: 5000)).utf8.count == 303)
    }
}
