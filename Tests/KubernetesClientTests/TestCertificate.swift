/// A certificate for tests only, its own authority, for localhost, 127.0.0.1, ::1 and kubernetes.test; valid until 2126.
///
/// Made with: openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500
/// -subj /CN=kubernetes.test -addext subjectAltName=DNS:localhost,DNS:kubernetes.test,IP:127.0.0.1,IP:::1
/// -addext basicConstraints=critical,CA:TRUE
enum TestCertificate {
    static let certificate = """
        -----BEGIN CERTIFICATE-----
        MIIBzTCCAXKgAwIBAgIUT+h5Dt7GyGDbVOux/IRX9eP86KkwCgYIKoZIzj0EAwIw
        GjEYMBYGA1UEAwwPa3ViZXJuZXRlcy50ZXN0MCAXDTI2MTEyMDIzNDg1MloYDzIx
        MjYxMDI3MjM0ODUyWjAaMRgwFgYDVQQDDA9rdWJlcm5ldGVzLnRlc3QwWTATBgcq
        hkjOPQIBBggqhkjOPQMBBwNCAASCO169zzUJqguITcpuOnt6M0FIC1UiMTqiQjMA
        venpaf2CsR0+GzW3Y7Zj7BOaQoUkIwFFPmPBAWuukr6opBQ6o4GTMIGQMB0GA1Ud
        DgQWBBSG/ZtKecM8v+bfcFT+a/awQjSiADAfBgNVHSMEGDAWgBSG/ZtKecM8v+bf
        cFT+a/awQjSiADA9BgNVHREENjA0gglsb2NhbGhvc3SCD2t1YmVybmV0ZXMudGVz
        dIcEfwAAAYcQAAAAAAAAAAAAAAAAAAAAATAPBgNVHRMBAf8EBTADAQH/MAoGCCqG
        SM49BAMCA0kAMEYCIQDaZ3WQ1QrQvILO6PwDONHP1TcaKYUnUYYVjqW3rNYhwQIh
        APNMqQJRS3yMCjZi6kRVI9/vtxpTlre8NivK7Jjh1+SL
        -----END CERTIFICATE-----

        """

    static let key = """
        -----BEGIN PRIVATE KEY-----
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgsN0sR/OohhyH0Q3p
        /ZbaPFnuy10+0aCJscuDrKHTEBGhRANCAASCO169zzUJqguITcpuOnt6M0FIC1Ui
        MTqiQjMAvenpaf2CsR0+GzW3Y7Zj7BOaQoUkIwFFPmPBAWuukr6opBQ6
        -----END PRIVATE KEY-----

        """

    /// Another one's, which the server's is not signed by.
    static let stranger = """
        -----BEGIN CERTIFICATE-----
        MIIBozCCAUmgAwIBAgIURQAprFw6Oj7atIGbRQ+t11atDTEwCgYIKoZIzj0EAwIw
        GDEWMBQGA1UEAwwNc29tZWJvZHkgZWxzZTAgFw0yNjExMjAyMzQ4NTJaGA8yMTI2
        MTAyNzIzNDg1MlowGDEWMBQGA1UEAwwNc29tZWJvZHkgZWxzZTBZMBMGByqGSM49
        AgEGCCqGSM49AwEHA0IABMbB9ec+A2sljMtxoM8iBee7UwEOOmJhjJjDzn6ofBGv
        8SNA8/+fp6LmRkJRbk0RNFp+ej3MtXA5UmMtUmBP7ryjbzBtMB0GA1UdDgQWBBQc
        gn69wvJrHZvgddCty+8V6Mj5VDAfBgNVHSMEGDAWgBQcgn69wvJrHZvgddCty+8V
        6Mj5VDAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwDwYDVR0TAQH/BAUwAwEB
        /zAKBggqhkjOPQQDAgNIADBFAiEAmUzn8lbC49j7PbjEw6Xg4Wz2Nr6nhrjrXeCQ
        DwF9zy8CIAPEAENgkByQA/FMB222UtzkmNgcsxZJop/otAmpYzJ6
        -----END CERTIFICATE-----

        """
}
