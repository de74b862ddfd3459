#include "test.h"

#include "store_xml.h"

/* Leaves as "parent/name=text;" one after the other. */
static bool note(void *context, struct str parent, struct str name, struct str text,
                 struct err *err)
{
    struct buf *seen = context;
    (void)err;
    buf_append(seen, parent);
    buf_append_byte(seen, '/');
    buf_append(seen, name);
    buf_append_byte(seen, '=');
    buf_append(seen, text);
    buf_append_byte(seen, ';');
    return true;
}

static bool reads_as(const char *document, const char *expected)
{
    struct err err;
    struct buf seen;
    buf_init(&seen, 4096);
    bool good = store_xml_read(str_of(document), note, &seen, &err) &&
                str_equal(buf_str(&seen), str_of(expected));
    buf_finish(&seen);
    return good;
}

static bool refused(const char *document)
{
    struct err err = {0};
    struct buf seen;
    buf_init(&seen, 4096);
    bool good = store_xml_read(str_of(document), note, &seen, &err);
    buf_finish(&seen);
    return !good && err.kind == ERR_STORE;
}

TEST(leaves_come_with_their_parent)
{
    CHECK(reads_as("<?xml version=\"1.0\"?>\n<A xmlns=\"x>y\"><B>1</B><C/><D a='/>'></D></A>\n",
                   "A/B=1;A/C=;A/D=;/A=;"));
    CHECK(reads_as("\xef\xbb\xbf<s:A><!-- <B> --><s:B>x</s:B ></s:A>", "A/B=x;/A=;"));
}

TEST(entities_are_the_five_and_numbers)
{
    CHECK(reads_as("<A>&lt;&gt;&amp;&quot;&apos;&#65;&#xe9;&#x1F600;</A>",
                   "/A=<>&\"'A\xc3\xa9\xf0\x9f\x98\x80;"));
    CHECK(reads_as("<A><![CDATA[a<b&c]]></A>", "/A=a<b&c;"));
    CHECK(refused("<A>&nbsp;</A>"));
    CHECK(refused("<A>&#0;</A>"));
    CHECK(refused("<A>&#xd800;</A>"));
    CHECK(refused("<A>&#x110000;</A>"));
    CHECK(refused("<A>&#;</A>"));
    CHECK(refused("<A>a & b</A>"));
}

TEST(broken_documents_are_refused)
{
    CHECK(refused(""));
    CHECK(refused("text"));
    CHECK(refused("<A>"));
    CHECK(refused("<A></B>"));
    CHECK(refused("<A"));
    CHECK(refused("</A>"));
    CHECK(refused("<A/><B/>"));
    CHECK(refused("<A/>x"));
    CHECK(refused("<>x</>"));
    CHECK(refused("<A><![CDATA[</A>"));
    CHECK(refused("<!-- <A/>"));
    CHECK(refused("<!DOCTYPE A [<!ENTITY e \"x\">]><A>&e;</A>"));
}

TEST(depth_ends_at_sixteen)
{
    CHECK(reads_as(
        "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a></a></a></a></a></a></a></a></a>"
        "</a></a></a></a></a></a></a></a>",
        "a/a=;a/a=;a/a=;a/a=;a/a=;a/a=;a/a=;a/a=;a/a=;a/a=;a/a=;a/a=;a/a=;a/a=;a/a=;/a=;"));
    CHECK(refused("<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a></a></a></a></a></a></a></a>"
                  "</a></a></a></a></a></a></a></a></a></a>"));
}

static const struct test_case cases[] = {
    TEST_CASE(leaves_come_with_their_parent),
    TEST_CASE(entities_are_the_five_and_numbers),
    TEST_CASE(broken_documents_are_refused),
    TEST_CASE(depth_ends_at_sixteen),
};
TEST_MAIN(cases)
